"""The studies that a notebook's cells define, found without running the rest of the notebook."""

import linecache

from labkit import session
from labkit.errors import LabError
from labkit.study import Study
from labtools import project


def of_notebook(path):
    """Run a notebook's cells with the tag "study", in a namespace of their own.

    Returns
    -------
    list of Study
        Those that the cells define.

    Raises
    ------
    LabError
        Where a cell stops with an error, or changes what an earlier cell's study uses.
    """
    session.start(0)  # quietly, before a cell imports Keras
    namespace = {"__name__": "__main__"}  # so that functions are sent to workers with their code, not by name
    digests = {}
    for cell in project.read_notebook(path).cells:
        if "study" not in cell.metadata.get("tags", []):
            continue
        name = f"<{path.stem}, cell {cell.id}>"
        # inspect.getsource looks here for code that is in no file
        linecache.cache[name] = (len(cell.source), None, cell.source.splitlines(keepends=True), name)
        try:
            exec(compile(cell.source, name, "exec"), namespace)
        except Exception as error:
            raise LabError(f"{name[1:-1]} stopped with {type(error).__name__}: {error}") from error
        for study in _studies(namespace):
            if digests.setdefault(study.name, study.digest) != study.digest:
                raise LabError(
                    f"{name[1:-1]} changes what study {study.name} of an earlier cell uses, so its runs would not be "
                    "those of the code above it: give the new thing another name."
                )
    return _studies(namespace)


def _studies(namespace):
    return [value for value in namespace.values() if isinstance(value, Study)]
