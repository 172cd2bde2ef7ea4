"""This copy of the course: its folders, its labs, and its notebooks, read in one place."""

import os
import tempfile
from pathlib import Path

from labkit.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"


def find_labs(names=()) -> list[Path]:
    """Find labs by number, such as "1" or "06", or by the name of their file; all of the course's labs by default.

    A copy beside a lab, such as "06_scratch_xor-Copy1", has the lab's number, but is found by its own name alone.

    Raises
    ------
    LabError
        If there is no such lab, no notebooks at all, or no way to tell which of several with one number is meant.
    """
    every = {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not every:
        raise LabError(f"There are no labs in {NOTEBOOKS}: clone the project and use the `labs` command of that copy.")
    numbers = sorted({stem[:2] for stem in every})
    found = set()
    for name in names or numbers:
        path = every.get(name.removesuffix(".ipynb")) or Path(name).resolve()
        if path not in every.values():
            path = _numbered(name.zfill(2), every)
        if path is None:
            raise LabError(f"There is no lab {name}: choose from {', '.join(numbers)}.")
        found.add(path)
    return [path for path in every.values() if path in found]


def _numbered(number, every):
    """The course's own lab of this number; None if there is none. Of several, it is the one that README links to."""
    stems = [stem for stem in every if stem[:2] == number]
    if len(stems) > 1:
        course = (ROOT / "README.md").read_text("utf-8")
        several, stems = stems, [stem for stem in stems if f"(notebooks/{stem}.ipynb)" in course]
        if len(stems) != 1:
            raise LabError(f"Several labs have the number {number}: {', '.join(several)}. Give one's whole name.")
    return every[stems[0]] if stems else None


def read_notebook(path: Path):
    """Read a notebook, as nbformat's version 4.5, in which each cell has an id.

    Raises
    ------
    LabError
        If the file is no such notebook. The sentence names it, and the way back.
    """
    import nbformat

    try:
        notebook = nbformat.reads(path.read_bytes().decode("utf-8-sig"), as_version=4)
        notebook = nbformat.v4.upgrade(notebook, from_minor=notebook.nbformat_minor)
        nbformat.validate(notebook)
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
    except Exception as error:  # what is no notebook makes nbformat fail in many ways, and all of them mean the same
        reason = f"is no notebook ({type(error).__name__})"
    else:
        return notebook
    git = f"`git checkout {path.parent.name}/{path.name}` in {ROOT}"
    back = git if (ROOT / ".git").exists() else "download the course again, and copy it over"
    raise LabError(f"{path.name} {reason}. To have it back as the course has it, without your changes: {back}.")


def fix_data_path() -> None:
    """Make a relative LABKIT_DATA absolute, because kernels run in the notebooks' folder, not where the user is."""
    chosen = os.environ.get("LABKIT_DATA", "").strip()
    if chosen and chosen != "digits":
        path = Path(chosen).expanduser()
        os.environ["LABKIT_DATA"] = str(path.absolute() if path.exists() else ROOT / path)


def fix_home() -> None:
    """Give processes to come a home where the system knows of none, as in some containers: Jupyter insists on one.

    Raises
    ------
    LabError
        If the folder that would do is somebody else's, who could let code run in it.
    """
    try:
        Path.home()
    except RuntimeError:
        if os.name == "nt":  # there, HOME is not where Python looks
            return
        folder = Path(tempfile.gettempdir()) / f"labs-home-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise LabError(f"You have no home folder, and {folder} is not yours: set HOME to a folder.") from None
        os.environ["HOME"] = str(folder)
