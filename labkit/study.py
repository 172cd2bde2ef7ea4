"""Studies: a grid of configurations × seeds, trained side by side, recorded run by run, and loaded at once after.

A lab defines a study in cells with the tag "study", with all of its Keras in sight. `labs record` runs these cells
and trains what has not been recorded yet; the lab itself only loads. A record is a file of JSON lines, one per run,
in notebooks/results. Each line carries a digest of the code that made it, so code that has changed since is noticed,
and a checksum of its own, so that an edit by hand is noticed too.

Runs go through joblib, so a study runs on a cluster by joblib's own switch. For Dask:

    client = dask.distributed.Client("address of the scheduler")
    with joblib.parallel_config("dask"):
        nine.record()
"""

import ast
import contextlib
import dis
import functools
import hashlib
import inspect
import io
import itertools
import json
import os
import sys
import textwrap
import time
import tokenize
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit import runner
from labkit.errors import LabError

_HERE = Path(__file__).resolve().parent
# In a clone, the records are with the notebooks; where labkit alone is installed (Colab), they come inside it.
_INSIDE, _WITH_NOTEBOOKS = _HERE / "results", _HERE.parent / "notebooks" / "results"
RESULTS = _INSIDE if _INSIDE.is_dir() else _WITH_NOTEBOOKS
# What a run does beyond the notebook's code: `_train`. Raise it whenever that changes the numbers, and all records
# are stale.
PROCEDURE = 1
STEPS = 64  # per call from Python: faster, and the same numbers
RUN_GB = 1.5  # memory that one run may need, so how many fit side by side
PARTS = ("train", "valid", "test")
MOST_NAMED = 4  # configurations or lines in one sentence


@dataclass(frozen=True)
class Status:
    """What a study's record holds: lists of (options, seed), and what is wrong with the file.

    fresh: recorded with today's code. stale: recorded with other code, or another schedule. missing: not recorded.
    damaged: numbers of lines that were changed by hand or cut off. others: runs that the grid does not ask for.
    """

    fresh: list
    stale: list
    missing: list
    damaged: list
    others: list

    @property
    def complete(self):
        """Whether the record is the grid's, no more and no less."""
        return not (self.stale or self.missing or self.damaged or self.others)


class Study:
    """A grid of training runs: every combination of `options`, each with every seed.

    name: "NN.name"; the record is notebooks/results/NN.name.jsonl.
    build: function (options by name) -> compiled Keras model.
    load: function (options by name) -> labkit.data.Dataset, its images and labels as the model wants them.
    options: dict of option -> list of values (numbers, texts, None, True or False). Each goes to the functions that
        have a parameter of this name; a function with a parameter `seed` gets the seed.
    seeds: whole numbers, or a function (options by name) -> whole numbers. Before it loads and again before it builds,
        each run sets all generators to its seed.
    epochs, batch_size: what `fit` is given: each a number, or a function (options by name) -> number.
    callbacks: None, or a function (options by name) -> list of Keras callbacks, called for each run.
    where: the folder of the record, if not the course's; there, only runs on MNIST are recorded.

    Raises LabError if an option has no function to go to, a function wants what is no option, or a value is of
    another kind.
    """

    def __init__(self, name, build, load, options, *, seeds, epochs, batch_size, callbacks=None, where=None):
        self.name, self.options = name, {k: list(v) for k, v in options.items()}
        self.seeds = seeds if callable(seeds) else list(seeds)
        self.epochs, self.batch_size = epochs, batch_size
        self.path = Path(where or RESULTS) / f"{name}.jsonl"
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
        if not values or len({_key(value, None) for value in values}) < len(values):
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

    def grid(self):
        """All runs as a list of (options, seed), configuration by configuration."""
        return [(options, seed) for options in self._configurations() for seed in self.seeds_of(options)]

    def seeds_of(self, options):
        """The seeds of one configuration, as a list."""
        return list(self.seeds(**_fitting(self.seeds, options, None))) if callable(self.seeds) else self.seeds

    def _configurations(self):
        return [dict(zip(self.options, values, strict=True)) for values in itertools.product(*self.options.values())]

    def _counts(self, configurations):
        """How many seeds these have, as text."""
        return _either({len(self.seeds_of(options)) for options in configurations})

    @property
    def digest(self):
        """A digest of the code and schedule that decide a run's numbers; comments and blank lines do not count."""
        code = {role: _code(function) for role, function in self.functions.items()}
        numbers = {name: None if callable(given) else given for name, given in self._schedule().items()}
        return _digest({"code": code, **numbers, "procedure": PROCEDURE})

    def _schedule(self):
        return {"epochs": self.epochs, "batch_size": self.batch_size}

    def _fit(self, options, seed):
        """The epochs and the batch size of one run."""
        return {
            name: given(**_fitting(given, options, seed)) if callable(given) else given
            for name, given in self._schedule().items()
        }

    def status(self):
        """Compare the record with the grid. Returns a Status."""
        found, damaged = self._read()
        grid, digest = self.grid(), self.digest
        known = {_key(*run) for run in grid}
        fresh = [run for run in grid if found.get(_key(*run), {}).get("digest") == digest]
        stale = [run for run in grid if _key(*run) in found and run not in fresh]
        missing = [run for run in grid if _key(*run) not in found]
        others = [(line["options"], line["seed"]) for key, line in found.items() if key not in known]
        return Status(fresh, stale, missing, damaged, others)

    def complaint(self):
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

    def load(self):
        """Return the recorded runs, one row each, in the order of the grid, and print what they are.

        Returns a pandas DataFrame with a column for each option, then `seed`; `train_loss`, `train_accuracy` and
        likewise `valid_` and `test_`, as `evaluate` gives them after training; `parameters`; `seconds` of the fit;
        `history`, the dict of lists that `fit` recorded. Runs that are stale or damaged are named and left out.
        Raises LabError if no run is left.
        """
        import pandas as pd

        status = self.status()
        if not status.fresh:
            raise LabError(self.complaint())
        if not status.complete:
            print(self.complaint())
        found, _ = self._read()
        lines = [found[_key(*run)] for run in status.fresh]
        rows = [
            {**line["options"], "seed": line["seed"]}
            | {f"{part}_{metric}": line[part][metric] for part in PARTS for metric in _loss_first(line[part])}
            | {"parameters": line["parameters"], "seconds": line["seconds"], "history": line["history"]}
            for line in lines
        ]
        configurations = len({_key(options, 0) for options, _ in status.fresh})
        incomplete = status.stale or status.missing or status.damaged
        seeds = f"{'up to ' if incomplete else ''}{self._counts([options for options, _ in status.fresh])} seeds each"
        print(
            f"{self.name}: {len(rows)} recorded runs ({configurations} configurations, {seeds}) on "
            f"{_several(line['data'] for line in lines)}, made with Keras "
            f"{_several(line['versions']['keras'] for line in lines)}."
        )
        return pd.DataFrame(rows)

    def record(self, jobs=None):
        """Train what is stale, damaged or missing, side by side, and write each run down as it ends.

        jobs: runs at a time, each with one thread; by default one per core, if memory allows. Inside
            joblib.parallel_config, what that says. Stopped at any time, a second call goes on where this one ended.
        Returns the number of runs trained. Raises LabError, naming the run, where one stops with an error; runs that
        ended before are kept; likewise where the record cannot be written.
        """
        import cloudpickle
        from tqdm import tqdm

        # Lists of options mostly end with the largest network: started first, it does not train on alone at the end.
        fresh = self.status().fresh
        todo = [run for run in reversed(self.grid()) if run not in fresh]
        todo.sort(key=lambda run: self.seeds_of(run[0]).index(run[1]))  # a record cut short has few seeds of all
        self._tidy()
        if not todo:
            return 0
        self._append("")  # a file that cannot be written is better known before the training than after
        functions, digest = cloudpickle.dumps(self.functions), self.digest
        course = self.path.parent == RESULTS
        calls = [(functions, options, seed, self._fit(options, seed), course) for options, seed in todo]
        bar = tqdm(total=len(todo), desc=self.name, unit="run", file=sys.stdout, dynamic_ncols=True)
        with bar, contextlib.closing(_side_by_side(calls, jobs)) as lines:
            for line in lines:
                if "error" in line:
                    raise LabError(
                        f"Study {self.name} stopped, because its run {_label(line['options'])} with seed "
                        f"{line['seed']} failed with {line['error']} ({bar.n} finished runs are kept)."
                    )
                self._append(_written(line | {"digest": digest}))
                bar.update()
        self._tidy()
        return len(todo)

    def _read(self):
        """The sound lines of the record as dict of key -> line, and the numbers of those that are not sound."""
        found, damaged, digest = {}, [], self.digest
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return found, damaged
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"{self.path.name} cannot be read ({error}): get it back with git checkout.") from None
        for number, written in enumerate(text.splitlines(), start=1):
            try:
                line = json.loads(written)
                check = line.pop("check")
                key = _key(line["options"], line["seed"])
            except (ValueError, LookupError, TypeError, AttributeError):
                damaged.append(number)
                continue
            if check != _digest(line):
                damaged.append(number)
            elif key not in found or line["digest"] == digest:
                found[key] = line
        return found, damaged

    @contextlib.contextmanager
    def _writing(self):
        """Say a full or forbidden disk in one sentence."""
        try:
            yield
        except OSError as error:
            raise LabError(
                f"{self.path} could not be written ({error.strerror or error}): make room on this disk, or use a copy "
                "of the course that you may write to, and record again; the runs that were written before are kept."
            ) from None

    def _append(self, text):
        with self._writing(), self.path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _tidy(self):
        """Rewrite the record in the order of the grid: without damaged lines, and without stale ones once replaced."""
        found, _ = self._read()
        grid = [_key(*run) for run in self.grid()]
        lines = [found[key] for key in grid if key in found]
        text = "".join(_written(line) for line in lines)
        part = self.path.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
        with self._writing():
            for left in self.path.parent.glob(f"{self.name}.*.part"):  # by a call that was killed
                left.unlink(missing_ok=True)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.read_bytes() == text.encode():
                return
            try:
                with part.open("w", encoding="utf-8", newline="\n") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, self.path)
            finally:
                part.unlink(missing_ok=True)


def of_notebook(path):
    """Run a notebook's cells with the tag "study", in a namespace of their own. Returns the Studies they define.

    Raises LabError where a cell stops with an error.
    """
    import linecache

    import nbformat

    from labkit import session

    session.start(0)  # quietly, before a cell imports Keras
    namespace = {"__name__": "__main__"}  # so that functions are sent to workers with their code, not by name
    digests = {}
    for cell in nbformat.read(path, as_version=4).cells:
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


def _loss_first(metrics):
    return sorted(metrics, key=lambda name: name != "loss")


def _studies(namespace):
    return [value for value in namespace.values() if isinstance(value, Study)]


def _side_by_side(calls, jobs):
    """Yield what `_train` returns for each of the calls, in the order in which they end."""
    import joblib
    from joblib.parallel import get_active_backend

    backend, configured = get_active_backend()
    chosen = type(backend).__name__ != "LokyBackend"  # by the user, with joblib.parallel_config
    if chosen:
        context = contextlib.nullcontext()
        jobs = jobs or -1
    else:
        jobs = jobs or (configured if configured not in (None, 1) else runner.default_jobs(RUN_GB))
        watch = {"initializer": _end_with_parent, "initargs": (os.getpid(),)}
        context = joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, **watch)
    with context, warnings.catch_warnings(), _silent_tracker():
        # loky replaces a worker whose memory has grown, which TensorFlow's does, and warns of it; no run is lost.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        warnings.filterwarnings("ignore", message=r"\d+ tasks")  # not used or cancelled, where a study stops half-way
        # loky, stopped with more tasks than its workers' queue holds, writes a KeyError to stderr.
        ahead = "all" if chosen else "2*n_jobs"
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=ahead)
        try:
            yield from parallel(joblib.delayed(_train)(*call) for call in calls)
        except Exception as error:
            if type(error).__name__ not in ("TerminatedWorkerError", "KilledWorker"):  # loky's, Dask's
                raise
            raise LabError(
                "A worker process died, most likely because the memory ran out: close other programs, or train "
                "fewer runs at a time (`labs record --jobs 1`)."
            ) from None
        finally:
            if not chosen:
                # Workers hold TensorFlow's memory, and after an interruption they would train on. Killed and not waited
                # for: one that died with the lock of the queue would keep the others from ever ending by themselves.
                executor = joblib.externals.loky.get_reusable_executor(reuse=True, kill_workers=True)
                executor.shutdown(wait=False, kill_workers=True)


@contextlib.contextmanager
def _silent_tracker():
    """In here, the process by which loky clears up after workers starts without its warnings of what they left."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _train(functions, options, seed, fit, course):
    """One run, in a worker process. Returns its line of the record, or one with "error".

    course: whether it is for the course's records, and so must not be trained on the stand-in for MNIST.
    """
    if "tensorflow" not in sys.modules:
        os.environ.update(runner.kernel_settings(threads=1))
    import cloudpickle

    from labkit import memory, session

    line = {"options": options, "seed": seed}
    try:
        session.start(seed)  # quiet, and before anything else imports Keras
        import keras

        _leave_generator_alone()
        made = cloudpickle.loads(functions)
        dataset = _dataset(functions, made["load"], _fitting(made["load"], options, seed))
        if course and dataset.name == "digits":
            raise LabError("having no MNIST, on which this course's studies are recorded: see `labs data`")
        keras.utils.set_random_seed(seed)  # whether or not the data was loaded before
        model = made["build"](**_fitting(made["build"], options, seed))
        callbacks = made["callbacks"](**_fitting(made["callbacks"], options, seed))
        if model.steps_per_execution == 1:
            model.steps_per_execution = STEPS
        start = time.perf_counter()
        validation = (dataset.x_valid, dataset.y_valid)
        history = model.fit(
            dataset.x_train, dataset.y_train, validation_data=validation, callbacks=callbacks, verbose=0, **fit
        ).history
        line |= {"data": dataset.name, "parameters": model.count_params(), "seconds": time.perf_counter() - start}
        for part in PARTS:
            x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
            line[part] = model.evaluate(x, y, batch_size=1000, verbose=0, return_dict=True)
        line |= {"history": history, "versions": _versions()}
        del model
        keras.backend.clear_session()
        memory.free()  # else a worker grows from run to run
        return _rounded(line)
    except LabError as error:
        return {"options": options, "seed": seed, "error": str(error)}
    except Exception as error:
        return {"options": options, "seed": seed, "error": f"{type(error).__name__}: {str(error).strip()[:500]}"}


def _end_with_parent(parent):
    """Let a worker end when the process that started it was killed: nobody would write its run down any more.

    parent: that process's number. The worker cannot ask for it, since it may be gone before the worker runs.
    """
    import threading

    import psutil

    def watch():
        while psutil.pid_exists(parent) if os.name == "nt" else os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _leave_generator_alone():
    """Give Dask's other threads a generator of their own.

    They draw from Python's, to estimate the size of messages, also between our seeding and Keras's drawing.
    """
    import random

    own = random.Random()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("dask", "distributed", "tornado"):
            for key, value in list(vars(module).items()):
                if value is random:
                    setattr(module, key, own)


_last_dataset = {}  # one a worker: most runs of a study share it


def _dataset(functions, load, arguments):
    """What `load` returns, kept for the next run that asks for the same."""
    key = (functions, _key(arguments, None))
    if key not in _last_dataset:
        _last_dataset.clear()  # first, so that there are never two in memory
        _last_dataset[key] = load(**arguments)
    return _last_dataset[key]


def _fitting(function, options, seed):
    """Those of the options, and the seed, that the function has parameters for."""
    wanted = inspect.signature(function).parameters
    return {name: value for name, value in (options | {"seed": seed}).items() if name in wanted}


def _no_callbacks():
    return []


def _versions():
    import keras
    import numpy as np
    import tensorflow as tf

    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, "numpy": np.__version__, "tensorflow": tf.__version__, "keras": keras.__version__}


def _code(function, seen=None):
    """What decides a notebook function's results: its source, and what the global names in it stand for.

    Comments and blank lines are left out, so that they may change. Installed code counts by its name alone.
    """
    seen = set() if seen is None else seen
    if function in seen:
        return function.__name__
    seen.add(function)
    try:
        if function.__code__.co_filename == "<string>":
            # What exec compiled has no source; but from Python 3.13 on, that of `python -c` is found under its name.
            raise OSError
        source = inspect.getsource(function.__code__)  # not of what a decorator wraps: that is in its closure
    except (OSError, TypeError):
        raise LabError(
            f"The code of {getattr(function, '__name__', function)} cannot be found, so a record of it would not "
            "tell what made it: define it in a cell or a file."
        ) from None
    code = function.__code__
    names = sorted(_global_names(code) & set(function.__globals__))
    uses = {name: function.__globals__[name] for name in names}
    uses |= {name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)}
    uses |= _defaults(function, source)
    return [_bare(source), {name: _meaning(value, function.__globals__, seen) for name, value in uses.items()}]


def _defaults(function, source):
    """Those defaults of a function's parameters that are more than a number or text that its source shows."""
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    try:
        tree = ast.walk(ast.parse(textwrap.dedent(source)))
        arguments = next(node.args for node in tree if isinstance(node, (ast.FunctionDef, ast.Lambda)))
        written = [*arguments.defaults, *filter(None, arguments.kw_defaults)]
    except (SyntaxError, StopIteration):  # a lambda in the middle of something
        written = []
    shown = len(written) == len(values)
    return {
        f"default {n}": value for n, value in enumerate(values) if not (shown and isinstance(written[n], ast.Constant))
    }


def _meaning(value, notebook, seen):
    """A description of a global value, the same in every process. notebook: the dict of its globals."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [_meaning(part, notebook, seen) for part in value]
    if isinstance(value, Mapping):
        return {str(key): _meaning(part, notebook, seen) for key, part in value.items()}
    if inspect.isfunction(value) and value.__globals__ is notebook:
        return _code(value, seen)
    if inspect.isclass(value) and value.__module__ == notebook.get("__name__"):
        return _class(value, notebook, seen)
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (range, bytes, complex)):
        return repr(value)
    if isinstance(value, functools.partial):
        return [_meaning(part, notebook, seen) for part in (value.func, value.args, value.keywords)]
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return [str(value.dtype), repr(value.tolist())]
    if type(value).__module__ == notebook.get("__name__"):
        return [_meaning(type(value), notebook, seen), _meaning(vars(value), notebook, seen)]
    if isinstance(getattr(value, "__name__", None), str):  # installed: a module, class or function
        return value.__name__
    raise LabError(
        f"A study's code uses a global {type(value).__name__}, whose contents a record cannot tell: make it inside "
        "the function that uses it."
    )


def _class(value, notebook, seen):
    """What `_meaning` makes of a notebook's class: its methods, its constants, and those of its bases."""
    members = {}
    for name, member in vars(value).items():
        function = getattr(member, "__func__", member)  # of a classmethod or staticmethod
        if isinstance(member, property):
            members |= {f"{name} {n}": _code(f, seen) for n, f in enumerate((member.fget, member.fset)) if f}
        elif not inspect.isfunction(function):
            if not name.startswith("__"):
                members[name] = _meaning(member, notebook, seen)
        elif function.__code__.co_filename != "<string>":  # which a dataclass makes itself
            members[name] = _code(function, seen)
    bases = [_class(base, notebook, seen) for base in value.__bases__ if base.__module__ == notebook.get("__name__")]
    return [members, bases] if bases else members


def _global_names(code):
    """Names that a code object, and those inside of it, look up among the globals."""
    inner = [constant for constant in code.co_consts if inspect.iscode(constant)]
    own = {line.argval for line in dis.get_instructions(code) if line.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*map(_global_names, inner))


def _bare(source):
    """The source without comments and blank lines, at the margin."""
    lines = textwrap.dedent(source).splitlines()
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _rounded(value):
    """The value with floats of 7 digits, about what float32 holds, so that records are small."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return float(f"{float(value):.7g}") if hasattr(value, "dtype") or isinstance(value, float) else value


def _key(options, seed):
    return json.dumps([options, seed], sort_keys=True)


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _written(line):
    """A line of the record: first what tells runs apart, last the checksum."""
    order = ("options", "seed", "data", "parameters", *PARTS, "seconds", "digest", "versions", "history")
    line = {key: line[key] for key in order}
    return json.dumps(line | {"check": _digest(line)}) + "\n"


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
