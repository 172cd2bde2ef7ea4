"""One call at the top of a lab: a fixed seed, a quiet TensorFlow and the course's plot style."""

import contextlib
import logging
import os
import random
import subprocess
import sys

import numpy as np

from labkit import _machine, names
from labkit.errors import LabError

# TensorFlow greets on file descriptor 2 before it reads how much it is to say. These lines are left out, and no others.
GREETINGS = ("All log messages before absl::InitializeLog()", "oneDNN custom operations are on")
SIEVE = f"""
import sys
for line in sys.stdin.buffer:
    if not any(text in line for text in {[text.encode() for text in GREETINGS]}):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""

_imported_here = False


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
        Where Keras or TensorFlow is missing.
    """
    names.explain_name_errors()
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
    global _imported_here  # noqa: PLW0603 - whether TensorFlow was loaded quietly is a fact of the whole process
    if "tensorflow" in sys.modules and not _imported_here:
        print(
            "TensorFlow was imported before session.start, so its start-up messages could not be silenced. "
            "To be rid of them, restart the kernel and run session.start first."
        )
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
    # Keep TensorFlow's C++ log to errors. Turning oneDNN off would also quiet it, but slow convolutions down.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name, value in _machine.SMALL.items():
        os.environ.setdefault(name, value)
    try:
        with _without_greetings():
            import keras
    except ModuleNotFoundError as error:
        raise LabError(
            f"{error.name} is missing from this kernel ({sys.executable}). Start JupyterLab with `python3 labs.py`, "
            "which installs all that the labs need, or run `labs doctor` to see what is missing."
        ) from None
    # What else keras.json may say changes numbers, and some of the claims.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    # After the import, which sets it: a lab that trains many small models is warned of each one's tracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _imported_here = True
    return keras


@contextlib.contextmanager
def _without_greetings():
    """Leave TensorFlow's greetings out of what is written to file descriptor 2, where its C++ code writes.

    A process of its own passes the other lines on, each at once: what is said just before a crash is not lost.
    """
    try:
        sieve = subprocess.Popen([sys.executable, "-I", "-S", "-c", SIEVE], stdin=subprocess.PIPE)
        saved = os.dup(2)
    except OSError:  # no such process, or no stderr: then with the greetings
        yield
        return
    os.dup2(sieve.stdin.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        sieve.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            sieve.wait(timeout=2)
