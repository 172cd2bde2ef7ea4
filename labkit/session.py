"""One call at the top of a lab: a fixed seed, a quiet TensorFlow and the course's plot style."""

import contextlib
import importlib.util
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np

from labkit import _machine, names
from labkit.errors import LabError

# TensorFlow greets on file descriptor 2 before it reads how much it is to say. These lines are left out, and no others.
GREETINGS = (b"All log messages before absl::InitializeLog()", b"oneDNN custom operations are on")
SIEVE = f"""import os, sys
for line in sys.stdin.buffer:
    if not any(text in line for text in {GREETINGS}):
        os.write(2, line)"""


def start(seed: int, keras: bool = True) -> None:
    """Fix every source of chance, import Keras without its start-up messages and set the plot style.

    Parameters
    ----------
    seed : int
        Two runs with one seed on one machine give the same digits.
    keras : bool
        False for a lab that uses NumPy only and should not wait for TensorFlow.

    Raises
    ------
    LabError
        Where Keras or TensorFlow is missing or broken, or hidden by a file of the same name.
    """
    names.explain_name_errors()
    for name in ("numpy", "matplotlib", "keras", "tensorflow"):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin and Path.cwd() == Path(spec.origin).parents[bool(spec.submodule_search_locations)]:
            raise LabError(f"{spec.origin} hides the package {name}: rename that file, and restart the kernel.")
    # Where the home cannot be written to, matplotlib makes do with a temporary folder, and says so at length.
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    from labkit import plots

    plots.use_style()
    logger.setLevel(before)
    if keras:
        _import_keras().utils.set_random_seed(seed)  # Python's, NumPy's and TensorFlow's generators
    else:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - labs without Keras draw from the global generator, as Keras labs do


def _import_keras():
    if "tensorflow" in sys.modules and "TF_CPP_MIN_LOG_LEVEL" not in os.environ:  # which is set below
        print("TensorFlow was imported before session.start: to be rid of its messages, restart the kernel.")
    # What the user has set elsewhere, as in keras.json, would change numbers, and make some of the claims false.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
        os.environ.pop(name, None)
    # Keep TensorFlow's C++ log to errors. Turning oneDNN off would also quiet it, but slow convolutions down.
    for name, value in {"TF_CPP_MIN_LOG_LEVEL": "2", **_machine.SMALL}.items():
        os.environ.setdefault(name, value)
    try:
        with _without_greetings():
            import keras
    except Exception as error:  # what is broken, or set wrong, fails in many ways
        text = f"Keras does not load in {sys.executable} ({type(error).__name__}: {error})"
        raise LabError(f"{text}: start JupyterLab with `python3 labs.py`, or see what `labs doctor` says.") from None
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    # After the import, which sets it: a lab that trains many small models is warned of each one's tracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return keras


@contextlib.contextmanager
def _without_greetings():
    """Leave TensorFlow's greetings out of what is written to file descriptor 2, where its C++ code writes."""
    # A process of its own passes the other lines on, each at once: what is said just before a crash is not lost. An
    # interrupt of the kernel, which goes to all processes of its group, does not stop it.
    try:
        saved = os.fdopen(os.dup(2), "wb")
        sieve = subprocess.Popen([sys.executable, "-ISc", SIEVE], stdin=subprocess.PIPE, start_new_session=True)
    except OSError:  # no stderr, or no such process: then with the greetings
        yield
        return
    os.dup2(sieve.stdin.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved.fileno(), 2)
        saved.close()
        sieve.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            sieve.wait(timeout=2)
