"""Studies: a grid of configurations × seeds, trained side by side, recorded run by run, and loaded at once after.

A lab defines a study in cells with the tag "study", with all of its Keras in sight. `labs record` runs these cells
and trains what has not been recorded yet; the lab itself only loads. A record is a file of JSON lines, one per run,
in notebooks/results. Each line carries a digest of the code that made it, so code that has changed since is noticed,
and a checksum of its own, so that an edit by hand is noticed too.

A study runs on a cluster by joblib's own means. For Dask, with the package `distributed`:

    client = dask.distributed.Client("address of the scheduler")
    nine.record(backend="dask")
"""

import contextlib
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import _fingerprint, _training
from labkit._record import Record, key
from labkit._training import PARTS, arguments_of
from labkit.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

_HERE = Path(__file__).resolve().parent
# In a clone, the records are with the notebooks; where labkit alone is installed (Colab), they come inside it.
_INSIDE, _WITH_NOTEBOOKS = _HERE / "results", _HERE.parent / "notebooks" / "results"
RESULTS = _INSIDE if _INSIDE.is_dir() else _WITH_NOTEBOOKS
MOST_NAMED = 4  # configurations or lines in one sentence


@dataclass(frozen=True)
class Status:
    """What a study's record holds: lists of (options, seed), and what is wrong with the file.

    fresh: recorded with today's code. stale: recorded with other code, or another schedule. missing: not recorded.
    damaged: numbers of lines that were changed by hand or cut off. others: runs that the grid does not ask for.
    """

    fresh: list[tuple[dict, int]]
    stale: list[tuple[dict, int]]
    missing: list[tuple[dict, int]]
    damaged: list[int]
    others: list[tuple[dict, int]]

    @property
    def complete(self) -> bool:
        """Whether the record is the grid's, no more and no less."""
        return not (self.stale or self.missing or self.damaged or self.others)


class Study:
    """A grid of training runs: every combination of `options`, each with every seed.

    Parameters
    ----------
    name : str
        "NN.name"; the record is notebooks/results/NN.name.jsonl.
    build : callable
        (options by name) -> compiled Keras model.
    load : callable
        (options by name) -> labkit.data.Dataset, its images and labels as the model wants them.
    options : dict of str -> list
        The values of each option: numbers, texts, None, True or False. Each goes to the functions that have a
        parameter of this name; a function with a parameter `seed` gets the seed.
    seeds : list of int, or callable
        Or a function (options by name) -> whole numbers. Before it loads and again before it builds, each run sets
        all generators to its seed.
    epochs, batch_size : int, or callable
        What `fit` is given: each a number, or a function (options by name) -> number.
    callbacks : callable, optional
        (options by name) -> list of Keras callbacks, called for each run.
    where : path, optional
        The folder of the record, if not the course's; in the course's, only runs on MNIST are recorded.

    Raises
    ------
    LabError
        If an option has no function to go to, a function wants what is no option, or a value is of another kind.
    """

    def __init__(
        self,
        name: str,
        build: Callable,
        load: Callable,
        options: Mapping[str, Iterable],
        *,
        seeds: Iterable[int] | Callable,
        epochs: int | Callable,
        batch_size: int | Callable,
        callbacks: Callable | None = None,
        where: str | Path | None = None,
    ):
        self.name, self.options = name, {k: list(v) for k, v in options.items()}
        self.seeds = seeds if callable(seeds) else list(seeds)
        self.epochs, self.batch_size = epochs, batch_size
        self.path = Path(where or RESULTS) / f"{name}.jsonl"
        self._record = Record(self.path)
        self.functions = {"build": build, "load": load, "callbacks": callbacks or _no_callbacks}
        self.functions |= {role: given for role, given in self._schedule().items() if callable(given)}
        for value in itertools.chain(*self.options.values()):
            if not isinstance(value, (str, int, float, type(None))):
                raise LabError(
                    f"Study {name}: an option is a number or a text, so that it can be recorded, not {value!r}."
                )
        if "seed" in options or any(isinstance(values, str) for values in options.values()):
            raise LabError(f"Study {name}: give each option a list of values; the seeds have an argument of their own.")
        for values in self.options.values():
            self._refuse_repeated(values)
        taken = {"seed"}
        choosing = {"seeds": seeds} if callable(seeds) else {}
        for role, function in (self.functions | choosing).items():
            wanted = set(inspect.signature(function).parameters)
            if strangers := sorted(wanted - {*options, "seed"}):
                raise LabError(
                    f"{role} of study {name} wants {', '.join(strangers)}, which is none of the options "
                    f"({', '.join(options)})."
                )
            taken |= wanted
        if unused := sorted(set(options) - taken):
            raise LabError(
                f"No function of study {name} takes {', '.join(unused)}: each option needs a parameter of its name."
            )
        for chosen in self._configurations():
            found = self.seeds_of(chosen)
            if not all(type(seed) is int for seed in found):
                raise LabError(f"Study {name}: seeds are whole numbers, not {found}.")
            self._refuse_repeated(found)

    def _refuse_repeated(self, values):
        if not values or len({key(value, None) for value in values}) < len(values):
            raise LabError(
                f"Study {self.name}: each option and the seeds need one or more different values, not {values}."
            )

    def __repr__(self):
        runs, configurations = self.grid(), self._configurations()
        epochs, batches = ({self._fit(*run)[name] for run in runs} for name in ("epochs", "batch_size"))
        return (
            f"Study {self.name}: {len(configurations)} configurations × {self._counts(configurations)} seeds, "
            f"{_either(epochs)} epochs in batches of {_either(batches)}"
        )

    def grid(self) -> list[tuple[dict, int]]:
        """All runs as a list of (options, seed), configuration by configuration."""
        return [(options, seed) for options in self._configurations() for seed in self.seeds_of(options)]

    def seeds_of(self, options: dict) -> list[int]:
        """The seeds of one configuration, as a list."""
        return list(self.seeds(**arguments_of(self.seeds, options, None))) if callable(self.seeds) else self.seeds

    def _configurations(self):
        return [dict(zip(self.options, values, strict=True)) for values in itertools.product(*self.options.values())]

    def _counts(self, configurations):
        """How many seeds these have, as text."""
        return _either({len(self.seeds_of(options)) for options in configurations})

    @property
    def digest(self) -> str:
        """A digest of the code and schedule that decide a run's numbers; layout and comments do not count."""
        code = {role: _fingerprint.of(function) for role, function in self.functions.items()}
        numbers = {name: None if callable(given) else given for name, given in self._schedule().items()}
        return _fingerprint.digest({"code": code, **numbers, "procedure": _training.PROCEDURE})

    def _schedule(self):
        return {"epochs": self.epochs, "batch_size": self.batch_size}

    def _fit(self, options, seed):
        """The epochs and the batch size of one run."""
        return {
            name: given(**arguments_of(given, options, seed)) if callable(given) else given
            for name, given in self._schedule().items()
        }

    def status(self) -> Status:
        """Compare the record with the grid. Returns a Status."""
        grid, digest = self.grid(), self.digest
        found, damaged = self._record.read(digest)
        known = {key(*run) for run in grid}
        fresh = [run for run in grid if found.get(key(*run), {}).get("digest") == digest]
        stale = [run for run in grid if key(*run) in found and run not in fresh]
        missing = [run for run in grid if key(*run) not in found]
        others = [(line["options"], line["seed"]) for name, line in found.items() if name not in known]
        return Status(fresh, stale, missing, damaged, others)

    def complaint(self) -> str | None:
        """What is wrong with the record and what to do, in a sentence or two; None if it is complete."""
        status = self.status()
        if status.complete:
            return None
        groups = {"stale": status.stale, "missing": status.missing, "not of this grid": status.others}
        parts = [
            f"{len(runs)} of its runs are {word} ({_several(_label(options) for options, _ in runs)})"
            for word, runs in groups.items()
            if runs
        ]
        if status.damaged:
            lines = "line " if len(status.damaged) == 1 else "lines "
            parts.append(f"{lines}{_several(map(str, status.damaged))} of {self.path.name} cut off or edited by hand")
        undo = "undo what has changed in its code or schedule, or " if status.stale else ""
        return (
            f"Study {self.name} is not complete: {'; '.join(parts)}. None of these are shown; {undo}train them with "
            f"`labs record {self.name.partition('.')[0]}`."
        )

    def load(self) -> "pd.DataFrame":
        """Return the recorded runs, one row each, in the order of the grid, and print what they are.

        Runs that are stale or damaged are named and left out.

        Returns
        -------
        pandas.DataFrame
            A column for each option, then `seed`; `train_loss`, `train_accuracy` and likewise `valid_` and `test_`, as
            `evaluate` gives them after training; `parameters`; `seconds` of the fit; `history`, the dict of lists that
            `fit` recorded.

        Raises
        ------
        LabError
            If no run is left.
        """
        status = self.status()
        if not status.fresh:
            raise LabError(self.complaint())
        if not status.complete:
            print(self.complaint())
        found, _ = self._record.read(self.digest)
        incomplete = status.stale or status.missing or status.damaged
        return _frame(self.name, [found[key(*run)] for run in status.fresh], incomplete=bool(incomplete))

    def record(self, jobs: int | None = None, backend: str | None = None) -> int:
        """Train what is stale, damaged or missing, side by side, and write each run down as it ends.

        Stopped at any time, a second call goes on where this one ended.

        Parameters
        ----------
        jobs : int, optional
            Runs at a time, each with one thread; by default one per core, if memory allows.
        backend : str, optional
            A backend of joblib, such as "dask", to run on instead of processes of this machine.

        Returns
        -------
        int
            The number of runs trained.

        Raises
        ------
        LabError
            Where a run stops with an error, which it names, or where the record cannot be written. Runs that ended
            before are kept.
        """
        import cloudpickle
        from tqdm import tqdm

        # Lists of options mostly end with the largest network: started first, it does not train on alone at the end.
        fresh = self.status().fresh
        todo = [run for run in reversed(self.grid()) if run not in fresh]
        todo.sort(key=lambda run: self.seeds_of(run[0]).index(run[1]))  # a record cut short has few seeds of all
        keys, digest = [key(*run) for run in self.grid()], self.digest
        self._record.tidy(keys, digest)
        if not todo:
            return 0
        self._record.append()  # a file that cannot be written is better known before the training than after
        functions = cloudpickle.dumps(self.functions)
        course = self.path.parent == RESULTS
        calls = [(functions, options, seed, self._fit(options, seed), course) for options, seed in todo]
        bar = tqdm(total=len(todo), desc=self.name, unit="run", file=sys.stdout, dynamic_ncols=True)
        with bar, contextlib.closing(_training.side_by_side(calls, jobs, backend)) as lines:
            for line in lines:
                if "error" in line:
                    raise LabError(
                        f"Study {self.name} stopped, because its run {_label(line['options'])} with seed "
                        f"{line['seed']} failed with {line['error']} ({bar.n} finished runs are kept)."
                    )
                self._record.append(line | {"digest": digest})
                bar.update()
        self._record.tidy(keys, digest)
        return len(todo)


def read(name: str, where: str | Path | None = None) -> "pd.DataFrame":
    """Read the record of another lab's study: the runs as they were written down, whatever that lab's code is today.

    Parameters
    ----------
    name : str
        The study's name, such as "05.source-b".
    where : path, optional
        The folder of the record, if not the course's.

    Returns
    -------
    pandas.DataFrame
        As `Study.load` returns it.

    Raises
    ------
    LabError
        If there is no such record.
    """
    found, _ = Record(Path(where or RESULTS) / f"{name}.jsonl").read()
    if not found:
        raise LabError(f"There is no record of a study {name}: its lab says `labs record {name.partition('.')[0]}`.")
    return _frame(name, list(found.values()))


def _frame(name, lines, incomplete=False):
    """The lines of a record as a DataFrame; prints in one line what they are."""
    import pandas as pd

    seeds = {}
    for line in lines:
        seeds.setdefault(key(line["options"], 0), []).append(line["seed"])
    counts = set(map(len, seeds.values()))
    configurations = f"{len(seeds)} configuration{'s' * (len(seeds) > 1)}"
    each = f"{f'up to {max(counts)}' if incomplete else _either(counts)} seeds each"
    data, keras = (
        _several(values) for values in zip(*((x["data"], x["versions"]["keras"]) for x in lines), strict=True)
    )
    print(f"{name}: {len(lines)} recorded runs ({configurations}, {each}) on {data}, made with Keras {keras}.")
    return pd.DataFrame(
        {**line["options"], "seed": line["seed"]}
        | {f"{part}_{metric}": line[part][metric] for part in PARTS for metric in _loss_first(line[part])}
        | {"parameters": line["parameters"], "seconds": line["seconds"], "history": line["history"]}
        for line in lines
    )


def _loss_first(metrics):
    return sorted(metrics, key=lambda name: name != "loss")


def _no_callbacks():
    return []


def _label(options):
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _either(numbers):
    return " or ".join(map(str, sorted(numbers)))


def _several(texts):
    """The different ones of these texts, in order; of many, only the first few."""
    different = list(dict.fromkeys(texts))
    if len(different) > MOST_NAMED:
        different[MOST_NAMED:] = [f"and {len(different) - MOST_NAMED} more"]
    return "; ".join(different)
