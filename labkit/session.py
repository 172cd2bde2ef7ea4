"""One call at the top of a lab: a fixed seed, a quiet TensorFlow and the course's plot style."""

import contextlib
import ctypes
import functools
import gc
import inspect
import logging
import os
import random
import sys
import tempfile
import types

import numpy as np

from labkit.errors import LabError

# Where the home cannot be written to, matplotlib makes do with a temporary folder, and says so at length.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
from labkit import guide, plots  # noqa: E402 - plots imports matplotlib

logging.getLogger("matplotlib").setLevel(logging.NOTSET)

ALIGNMENT = 64  # bytes: where TensorFlow wants the memory of a tensor to begin
M_ARENA_MAX = -8  # the option's number in glibc's malloc.h
LARGE = 1_000_000  # bytes: an array from which on a second copy matters

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
    # TensorFlow's own allocator for oneDNN never gives memory back: after two calls of `fit`, a lab holds its training
    # images three times, for good. With the system's it computes the same numbers; only large
    # batches of a CNN take longer to evaluate.
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    _few_arenas()
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
    _one_copy_of_arrays()
    _no_origins_of_operations()
    _free_memory_after_cells()
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


def _one_copy_of_arrays():
    """Let TensorFlow use the copy that it makes of a large NumPy array, where it would make a second one.

    It copies an array first, so that a change to the array does not reach the tensor. It then copies the copy, too,
    unless that begins at a multiple of 64 bytes, which NumPy's large arrays never do. This one does: `fit` takes the
    memory of its images once instead of twice.
    """
    from tensorflow.python.framework import constant_op

    convert = getattr(constant_op, "convert_to_eager_tensor", None)
    if convert is None or hasattr(convert, "__wrapped__"):  # not there, or done by an earlier `start`
        return

    class Aligned(np.ndarray):
        def copy(self, *_, **__):
            space = np.empty(self.nbytes + ALIGNMENT, np.uint8)
            start = -space.ctypes.data % ALIGNMENT
            copy = space[start : start + self.nbytes].view(self.dtype).reshape(self.shape)
            copy[...] = self
            return copy

    @functools.wraps(convert)
    def convert_once(value, *args, **kwargs):
        if type(value) is np.ndarray and value.nbytes > LARGE and value.dtype.kind in "fiub":
            value = value.view(Aligned)
        return convert(value, *args, **kwargs)

    constant_op.convert_to_eager_tensor = convert_once


def _no_origins_of_operations():
    """Keep TensorFlow from noting for each operation of a graph which lines of Python it comes from.

    It keeps these notes for ever, and a cell that is run again counts as new lines: more than a megabyte for each cell
    that calls `fit`. They only lengthen its error messages: which line called `fit`, Python says itself.
    """
    from tensorflow.python.framework import ops

    create = getattr(ops, "_create_c_op", None)
    if create is None or isinstance(create, functools.partial):
        return
    if "extract_traceback" in inspect.signature(create).parameters:
        ops._create_c_op = functools.partial(create, extract_traceback=False)


def free_memory(*_):
    """Let go of networks that nothing refers to any more. In a notebook this happens after each cell by itself.

    A loss, when Keras compiles it into a step, registers its gradient with TensorFlow, which keeps it for ever, and
    with it the step's graph and the weights of the network. A step contains its gradients, so nobody looks there again.
    """
    framework = sys.modules.get("tensorflow.python.framework.ops")
    registered = getattr(getattr(framework, "gradient_registry", None), "_registry", {})
    steps = [name for name in list(registered) if name.startswith("CustomGradient-") and _is_of_step(registered[name])]
    for name in steps:
        del registered[name]
    if steps:  # a collection takes a tenth of a second: only after cells that have compiled a network
        gc.collect()
    if trim := _of_c("malloc_trim"):  # gives freed memory back to the system, in milliseconds
        trim(0)


def _few_arenas():
    """Have the C library take memory from one place per core, instead of eight.

    What is freed in one place is of no use in another, nor given back while its page holds anything else. With a place
    for each of TensorFlow's threads, a lab holds tens of megabytes more.
    """
    if mallopt := _of_c("mallopt"):
        mallopt(M_ARENA_MAX, os.cpu_count() or 1)


@functools.cache
def _of_c(name):
    """A function of Linux's C library; None if it has none of that name, as musl's has not."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _is_of_step(entry):
    """Whether a registered gradient belongs to a step of Keras's `fit`, `evaluate` or `predict`.

    The user's own functions of TensorFlow have to keep theirs: they may be differentiated in a later cell.
    """
    found = list(entry.values())
    for _ in range(3):  # the gradient is a function in a function, which holds lists of tensors
        cells = [cell for one in found for cell in getattr(one, "__closure__", None) or ()]
        found = [cell.cell_contents for cell in cells if cell != types.CellType()]
        found += [part for one in found if isinstance(one, (list, tuple)) for part in one]
        if any(getattr(getattr(one, "graph", None), "name", "") == "one_step_on_data" for one in found):
            return True
    return False


def _free_memory_after_cells():
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and free_memory not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", free_memory)
        # What a cell shows is kept in Out, too: there, a data set that is shown again and again is there many times.
        shell.displayhook.cache_size = 0


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
