"""Keeps a kernel with TensorFlow small: what TensorFlow holds twice, or for ever, is held once, or let go.

Nothing here changes a number that is computed. It reaches into TensorFlow, so each function does nothing where it does
not find what it knows.
"""

import ctypes
import functools
import gc
import inspect
import os
import sys
import types

import numpy as np

ALIGNMENT = 64  # bytes: where TensorFlow wants the memory of a tensor to begin
LARGE = 1_000_000  # bytes: an array from which on a second copy matters
M_ARENA_MAX = -8  # the option's number in glibc's malloc.h


def before_tensorflow():
    """What has to be set before TensorFlow is imported."""
    # TensorFlow's own allocator for oneDNN never gives memory back: a kernel stays as large as the largest layer of the
    # largest batch made it. The system's does; only large batches of a CNN take longer to evaluate.
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    _few_arenas()


def after_tensorflow():
    """What is done to TensorFlow once it is imported; a second time it changes nothing."""
    _one_copy_of_arrays()
    _no_origins_of_operations()
    _free_after_cells()


def free(*_):
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


def _free_after_cells():
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and free not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", free)
        # What a cell shows is kept in Out, too: there, a data set that is shown again and again is there many times.
        shell.displayhook.cache_size = 0


def _few_arenas():
    """Have the C library take memory from one place for each core that this process may use, instead of eight per core.

    What is freed in one place is of no use in another, nor given back while its page holds anything else. With a place
    for each of TensorFlow's threads, a lab holds tens of megabytes more.
    """
    import joblib

    if mallopt := _of_c("mallopt"):
        mallopt(M_ARENA_MAX, joblib.cpu_count())  # in a container its share, not what the whole machine has


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


@functools.cache
def _of_c(name):
    """A function of Linux's C library; None if it has none of that name, as musl's has not."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
