"""What a kernel with TensorFlow holds, each in a process of its own."""

import ctypes
import sys

import pytest
from test_session import run

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallinfo2")  # since 2.33


IN_A_NOTEBOOK = """
import ctypes, gc
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from labkit import session; session.start(1); session.start(1)")
shell.run_cell('''
import keras, numpy as np
from keras import layers
x, y = np.ones((8, 4)), np.ones(8)
def train():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    return model
''')
"""

GRAPHS = """
shell.run_cell("kept = train()")
def graphs():
    return sum(type(one).__name__ == "FuncGraph" and "step" in one.name for one in gc.get_objects())
before = graphs()
shell.run_cell("train(); train(); None")
print(before, graphs())
shell.run_cell("h = kept.fit(np.ones((9, 4)), np.ones(9), epochs=2, batch_size=9, verbose=0)")
print(shell.user_ns["kept"].optimizer.iterations.numpy())
from labkit import memory
print(shell.events.callbacks["post_run_cell"].count(memory.free))
"""


def test_after_a_cell_only_networks_in_use_are_kept_and_they_train_on():
    before, after, steps, hooks = map(int, run(IN_A_NOTEBOOK + GRAPHS).stdout.split()[-4:])
    assert before == after > 0
    assert (steps, hooks) == (3, 1)


def test_what_a_cell_shows_is_not_kept():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_cell('from labkit import session; session.start(1)')\n"
        "shell.run_cell('x = [1, 2]', store_history=True)\n"
        "shell.run_cell('x', store_history=True); print(shell.user_ns['Out'])"
    )
    shown, kept = run(code).stdout.strip().splitlines()[-2:]
    assert "[1, 2]" in shown
    assert kept == "{}"


def test_a_function_of_ones_own_can_be_differentiated_in_a_later_cell():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_cell('from labkit import session; session.start(1); import tensorflow as tf')\n"
        "shell.run_cell('x = tf.constant(0.0); swish = tf.function(lambda x: tf.nn.silu(x)); swish(x)')\n"
        "shell.run_cell('with tf.GradientTape() as tape: tape.watch(x); y = swish(x)')\n"
        "shell.run_cell('print(float(tape.gradient(y, x)))')"
    )
    assert run(code).stdout.strip().splitlines()[-1] == "0.5"


GIVEN_BACK = """
import gc, psutil
from labkit import memory, session; session.start(1)
import numpy as np, keras
x = np.ones((20_000, 784), "float32")
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(2_000), keras.layers.Dense(10, "softmax")])
def held():
    gc.collect(); memory.free()
    return psutil.Process().memory_info().rss
model.predict(x[:100], verbose=0)  # compiles, which takes memory of its own
before = held()
model.predict(x, batch_size=20_000, verbose=0)
print((held() - before) / (20_000 * 2_000 * 4))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how much a process holds is told differently elsewhere")
def test_what_a_large_layer_computed_is_given_back():
    assert float(run(GIVEN_BACK).stdout.split()[-1]) < 0.5


COPIES = """
import psutil
from labkit import session; session.start(1); session.start(1)
import numpy as np, tensorflow as tf
x = np.arange(50_000_000, dtype="float32").reshape(10, -1)
before = psutil.Process().memory_info().rss
tensor = tf.convert_to_tensor(x)
held = psutil.Process().memory_info().rss - before
x[0] = 5
print(held / x.nbytes, float(tensor[0, 0]), float(tensor[9, 0]), tensor.shape[1])
for view in (x.T, x[:, ::2], x[:, :700_000].astype("uint8"), x > 3, x.astype(">f4")):
    print(np.array_equal(tf.convert_to_tensor(view), view))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how much a process holds is told differently elsewhere")
def test_a_large_array_is_copied_once_and_what_happens_to_it_later_does_not_reach_the_tensor():
    first, *views = run(COPIES).stdout.strip().splitlines()[-6:]
    held, *numbers = map(float, first.split())
    assert held < 1.5
    assert numbers == [0, 45_000_000, 5_000_000]
    assert views == ["True"] * 5


AGAIN = """
class Numbers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Numbers
def used():
    gc.collect()
    return mallinfo().h
for _ in range(3):
    shell.run_cell("keras.backend.clear_session(); train(); None")
before = used()
for _ in range(5):
    shell.run_cell("keras.backend.clear_session(); train(); None")
print((used() - before) / 5)
"""


@pytest.mark.skipif(not GLIBC, reason="asks glibc how much memory is in use")
def test_a_cell_that_trains_can_be_run_again_and_again_without_taking_memory():
    assert float(run(IN_A_NOTEBOOK + AGAIN).stdout.split()[-1]) < 150_000


def test_an_error_in_a_graph_says_what_is_wrong_without_the_lines_of_keras():
    code = (
        "from labkit import session; session.start(1)\n"
        "import keras, numpy as np\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, 'softmax')])\n"
        "model.compile('sgd', 'sparse_categorical_crossentropy')\n"
        "try: model.fit(np.ones((8, 4)), np.full(8, 7), verbose=0)\n"
        "except Exception as error: print(error)"
    )
    said = run(code).stdout
    assert "label value of 7" in said
    assert "site-packages" not in said


ARENAS = """
import ctypes, os, joblib
from labkit import session; session.start(1)
import numpy as np, keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
model.compile("sgd", "sparse_categorical_crossentropy")
model.fit(np.ones((100, 4)), np.ones(100), verbose=0)
c = ctypes.CDLL(None)
c.fdopen.restype = ctypes.c_void_p
read, write = os.pipe()
c.malloc_info(0, file := ctypes.c_void_p(c.fdopen(write, b"w")))
c.fclose(file)
print(os.read(read, 100_000).count(b"<heap nr"), joblib.cpu_count())
"""


@pytest.mark.skipif(not GLIBC, reason="asks glibc about its arenas")
def test_memory_is_shared_out_per_core_not_per_thread():
    arenas, cores = map(int, run(ARENAS).stdout.split()[-2:])
    assert arenas <= cores + 1
