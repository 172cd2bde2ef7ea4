"""Do a lab's claims hold under other seeds, and on both data sets?

A lab is run again with its constants SEED and SEEDS moved on, so that no two runs share a seed.
"""

import ast
import re

from labtools import run

SEEDS = re.compile(r"^(SEEDS? = )(\d+|\([\d, ]+\))", re.MULTILINE)


def moved(source: str, by: int) -> str:
    """The source of a cell with its SEED and SEEDS moved on `by` times."""

    def other(found):
        seeds = ast.literal_eval(found[2])
        return found[1] + repr(seeds + by if isinstance(seeds, int) else tuple(n + by * len(seeds) for n in seeds))

    return SEEDS.sub(other, source)


def check(paths, datasets, seeds, jobs, report=print) -> list[str]:
    """Run labs under other seeds; return a sentence for each run in which a claim does not hold.

    Parameters
    ----------
    paths, jobs
        As for `run.run`.
    datasets : dict
        Name -> value of LABKIT_DATA, such as {"MNIST": "", "digits": "digits"}.
    seeds : int
        How many other seeds.
    report : callable
        Called with a sentence for each run as it ends.
    """
    failures = []
    for name, value in datasets.items():
        for by in range(1, seeds + 1):

            def change(notebook, by=by):
                for cell in notebook.cells:
                    if cell.cell_type == "code":
                        cell.source = moved(cell.source, by)

            def show(result, name=name, by=by):
                outcome = result.failure or f"all claims hold ({result.seconds:.0f} s)"
                sentence = f"{result.name}, {name}, seeds moved on {by} times: {outcome}"
                failures.extend([sentence] if result.failure else [])
                report(sentence)

            run.run(paths, jobs, report=show, change=change, data=value)
    return failures
