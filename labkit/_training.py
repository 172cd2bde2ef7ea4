"""One training run of a study, and a pool of worker processes for many of them."""

import inspect
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from labkit import _machine
from labkit.errors import LabError

# Raise it whenever `train` comes to change the numbers of a run: then all records are stale.
PROCEDURE = 1
STEPS = 64  # per call from Python: faster, and the same numbers
PARTS = ("train", "valid", "test")
RUNS_PER_WORKER = 20  # what TensorFlow keeps of each network goes with its process


def side_by_side(calls, jobs=None, backend=None):
    """Yield what `train` returns for each of the calls, in the order in which they end.

    Parameters
    ----------
    calls : list of tuples
        The arguments of `train`.
    jobs : int, optional
        Runs at a time, each with one thread; by default one per core, if memory allows.
    backend : str, optional
        A backend of joblib, such as "dask", to run on instead of processes of this machine.

    Raises
    ------
    LabError
        Where a worker process dies.
    """
    if backend:
        import joblib

        with joblib.parallel_config(backend, n_jobs=jobs or -1):
            parallel = joblib.Parallel(return_as="generator_unordered")
            yield from parallel(joblib.delayed(train_alone)(*call) for call in calls)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        jobs or _machine.default_jobs(),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with_parent,
        initargs=(os.getpid(),),
        max_tasks_per_child=RUNS_PER_WORKER,
    )
    try:
        for done in as_completed([pool.submit(train, *call) for call in calls]):
            yield done.result()
    except BrokenProcessPool:
        raise LabError(
            "A worker process died, most likely because the memory ran out: close other programs, or train fewer "
            "runs at a time (`labs record --jobs 1`)."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:  # after an interruption they would train on
            worker.kill()


def train_alone(*call):
    """`train` in a process that it has to itself: a cluster's worker has threads that draw from Python's generator."""
    import cloudpickle

    code = (
        "import json, sys, cloudpickle; from labkit import _training; "
        "print(); print(json.dumps(_training.train(*cloudpickle.load(sys.stdin.buffer))))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(call), capture_output=True, check=False)
    if done.returncode:
        return {"options": call[1], "seed": call[2], "error": f"its process ending with status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def train(functions, options, seed, fit, course):
    """Train one network and evaluate it, in a worker process.

    Parameters
    ----------
    functions : bytes
        The study's functions, pickled by cloudpickle.
    options : dict
        The run's options, by name.
    seed : int
        All generators are set to it, before the data is loaded and again before the network is built.
    fit : dict
        The epochs and the batch size.
    course : bool
        Whether it is for the course's records, and so must not be trained on the stand-in for MNIST.

    Returns
    -------
    dict
        The run's line of the record without its digest; or one with "error", a text.
    """
    if "tensorflow" not in sys.modules:
        os.environ.update(_machine.environment(threads=1))
    import cloudpickle

    from labkit import session

    line = {"options": options, "seed": seed}
    try:
        session.start(seed)  # quiet, and before anything else imports Keras
        import keras

        made = cloudpickle.loads(functions)
        dataset = _dataset(functions, made["load"], arguments_of(made["load"], options, seed))
        if course and dataset.name != "MNIST":
            raise LabError("having no MNIST, on which this course's studies are recorded: see `labs data`")
        keras.utils.set_random_seed(seed)  # whether or not the data was loaded before
        model = made["build"](**arguments_of(made["build"], options, seed))
        callbacks = made["callbacks"](**arguments_of(made["callbacks"], options, seed))
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


_last_dataset = {}  # one a worker: most runs of a study share it


def _dataset(functions, load, arguments):
    """What `load` returns, kept for the next run that asks for the same."""
    key = (functions, json.dumps(arguments, sort_keys=True))
    if key not in _last_dataset:
        _last_dataset.clear()  # first, so that there are never two in memory
        _last_dataset[key] = load(**arguments)
    return _last_dataset[key]


def arguments_of(function, options, seed):
    """Those of the options, and the seed, that the function has parameters for."""
    wanted = inspect.signature(function).parameters
    return {name: value for name, value in (options | {"seed": seed}).items() if name in wanted}


def _versions():
    import keras
    import numpy as np
    import tensorflow as tf

    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, "numpy": np.__version__, "tensorflow": tf.__version__, "keras": keras.__version__}


def _rounded(value):
    """The value with floats of 7 digits, about what float32 holds, so that records are small."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return float(f"{float(value):.7g}") if hasattr(value, "dtype") or isinstance(value, float) else value
