"""One call at the top of a lab: a fixed seed, a quiet TensorFlow and the course's plot style."""

import contextlib
import functools
import logging
import os
import random
import sys
import tempfile

import numpy as np

from labkit.errors import LabError

# Where the home cannot be written to, matplotlib makes do with a temporary folder, and says so at length.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
from labkit import guide, memory, plots  # noqa: E402 - plots imports matplotlib

logging.getLogger("matplotlib").setLevel(logging.NOTSET)

_imported_here = False


def start(seed, keras=True):
    """Fix every source of chance, import Keras without its start-up messages and set the plot style.

    seed: a whole number. Two runs with one seed on one machine give the same digits.
    keras: False for a lab that uses NumPy only and should not wait for TensorFlow.
    Raises LabError where Keras or TensorFlow is missing.
    """
    guide.switch_on()  # unless the server has switched it on for this kernel
    plots.use_style()
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
    memory.before_tensorflow()
    try:
        with _quiet_stderr():
            import keras
    except ImportError as error:
        raise LabError(
            f"Keras or TensorFlow is missing from this kernel ({error}). Start JupyterLab with `python3 labs.py`, "
            "which installs both, or run `labs doctor` to see what is missing."
        ) from None
    # After the import, which sets it: a lab that trains many small models is warned of each one's tracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _quick_dropout()
    memory.after_tensorflow()
    _imported_here = True
    return keras


def _quick_dropout():
    """Name the generator of dropout's random numbers, which TensorFlow would look up instead.

    On a processor it finds this one, so the numbers stay the same. But with `jit_compile=True` the look-up becomes part
    of the compiled program, and each number takes thirty times as long.
    """
    import tensorflow as tf

    drop = getattr(tf.nn.experimental, "stateless_dropout", None)
    if drop is not None and not isinstance(drop, functools.partial):
        tf.nn.experimental.stateless_dropout = functools.partial(drop, rng_alg="philox")


@contextlib.contextmanager
def _quiet_stderr():
    """Hold back what is written to file descriptor 2, where C++ code writes; let it out if the block fails.

    Setting TF_CPP_MIN_LOG_LEVEL is not enough: some of TensorFlow's messages are written before it is read.
    """
    try:
        held, saved = tempfile.TemporaryFile(), os.dup(2)  # noqa: SIM115 - closed below
    except OSError:  # nowhere to write, or no stderr: then not quiet, but at work
        yield
        return
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
