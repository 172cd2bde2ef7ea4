"""session.start and the cost of importing labkit, each in a process of its own."""

import ctypes
import os
import subprocess
import sys

import pytest

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallinfo2")  # since 2.33


def run(code, **environment):
    env = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=True)


def test_importing_labkit_imports_nothing_slow():
    code = "import sys, labkit, labkit.exercises, labkit.claims; print(*(m for m in {!r} if m in sys.modules))"
    assert run(code.format(["tensorflow", "keras", "matplotlib", "sklearn", "pandas", "scipy"])).stdout.strip() == ""


def test_plots_and_data_import_no_tensorflow():
    code = "import sys, labkit.plots, labkit.data, labkit.session; print('tensorflow' in sys.modules)"
    assert run(code).stdout.strip() == "False"


def test_start_is_quiet_and_keeps_onednn():
    code = (
        "from labkit import session; session.start(1)\n"
        "import keras, os, tensorflow as tf; print(float(keras.ops.sum(keras.ops.ones((3, 3)))))\n"
        "print(os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'on'))"
    )
    done = run(code)
    assert done.stderr == ""
    assert done.stdout.split() == ["9.0", "on"]


@pytest.mark.skipif(sys.platform != "linux", reason="other builds of TensorFlow may say nothing")
def test_plain_keras_is_not_quiet():
    # What session.start silences is really there; else the test above would prove nothing.
    assert run("import keras").stderr != ""


def test_a_seed_repeats_everything():
    code = (
        "from labkit import session; import random, numpy as np\n"
        "for seed in (7, 7, 8):\n"
        "    session.start(seed); import keras\n"
        "    dense = keras.layers.Dense(2); dense.build((None, 2))\n"
        "    import tensorflow as tf; print(tf.random.uniform(()).numpy(), end=' ')\n"  # what shuffles in `fit`
        "    print(random.random(), np.random.random(), dense.kernel.numpy().ravel())"
    )
    first, again, other = run(code).stdout.strip().splitlines()
    assert first == again != other


def test_without_keras_no_tensorflow_and_the_same_seed():
    code = (
        "from labkit import session; import sys, numpy as np\n"
        "session.start(1, keras=False); print(np.random.random(), 'tensorflow' in sys.modules)\n"
        "np.random.seed(1); print(np.random.random(), False)"
    )
    first, again = run(code).stdout.strip().splitlines()
    assert first == again
    assert first.endswith("False")


def test_a_late_start_warns_once_and_works():
    late = run("import tensorflow; from labkit import session; session.start(1); session.start(1); import keras")
    assert late.stdout.count("restart the kernel") == 1
    twice = run("from labkit import session; session.start(1); session.start(1)")
    assert twice.stdout == ""


def test_a_missing_keras_is_one_sentence():
    code = (
        "import sys; sys.modules['keras'] = None\n"
        "from labkit import session, errors\n"
        "try: session.start(1)\n"
        "except errors.LabError as error: print(error)"
    )
    assert "python3 labs.py" in run(code).stdout


def test_an_error_while_importing_is_not_swallowed():
    code = (
        "import os\nfrom labkit import session\n"
        "try:\n"
        "    with session._quiet_stderr():\n"
        "        os.write(2, b'held back'); raise RuntimeError\n"
        "except RuntimeError: pass\n"
        "os.write(2, b', and stderr works again')"
    )
    assert run(code).stderr == "held back, and stderr works again"


@pytest.mark.parametrize("keras", ["True", "False"])
def test_start_sets_the_plot_style(keras):
    code = (
        f"from labkit import session; session.start(1, keras={keras})\n"
        "import matplotlib.pyplot as plt; print(plt.rcParams['axes.prop_cycle'].by_key()['color'][0])"
    )
    assert run(code, MPLBACKEND="agg").stdout.strip() == "#0072B2"


def test_a_home_that_cannot_be_written_to_goes_without_a_word(tmp_path):
    (tmp_path / "file").touch()
    code = (
        "from labkit import session; session.start(1, keras=False)\n"
        "import logging; logging.getLogger('matplotlib').warning('heard again')"
    )
    done = run(code, MPLCONFIGDIR=str(tmp_path / "file" / "matplotlib"))
    assert done.stderr == "heard again\n"


def test_dropout_draws_the_same_numbers_as_in_plain_keras():
    code = (
        "{}import keras, numpy as np; keras.utils.set_random_seed(3)\n"
        "drop = keras.layers.Dropout(0.5)\n"
        "print(np.flatnonzero(drop(np.ones((4, 8), 'float32'), training=True).numpy()))"
    )
    plain, ours = (run(code.format(start)) for start in ("", "from labkit import session; session.start(1); "))
    assert plain.stdout == ours.stdout != ""


IN_A_NOTEBOOK = """
import gc
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from labkit import session; session.start(1); session.start(1)")
shell.run_cell('''
import keras, numpy as np
from keras import layers
x, y = np.ones((8, 4)), np.ones(8)
def train():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    return model
kept = train()
''')
def graphs():
    return sum(type(one).__name__ == "FuncGraph" and "step" in one.name for one in gc.get_objects())
before = graphs()
shell.run_cell("train(); train(); None")
print(before, graphs())
shell.run_cell("h = kept.fit(np.ones((9, 4)), np.ones(9), epochs=2, batch_size=9, verbose=0)")
print(shell.user_ns["kept"].optimizer.iterations.numpy())
from labkit import session
print(shell.events.callbacks["post_run_cell"].count(session.free_memory))
"""


def test_after_a_cell_only_networks_in_use_are_kept_and_they_train_on():
    before, after, steps, hooks = map(int, run(IN_A_NOTEBOOK).stdout.split()[-4:])
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


MEMORY = """
import gc, psutil
from labkit import session; session.start(1)
import numpy as np, keras
x, y = np.ones((50_000, 784), "float32"), np.zeros(50_000)
def held():
    gc.collect(); session.free_memory()
    return psutil.Process().memory_info().rss
def train():
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x[:1_000], y[:1_000], batch_size=500, verbose=0)  # compiles, which takes memory of its own
    before = held()
    model.fit(x, y, batch_size=500, verbose=0)
    return held() - before
print(train() / x.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how much a process holds is told differently elsewhere")
def test_training_images_are_not_held_a_second_time():
    assert float(run(MEMORY).stdout.split()[-1]) < 0.5


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
import ctypes, gc
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from labkit import session; session.start(1); session.start(1)")
shell.run_cell('''
import keras, numpy as np
from keras import layers
x, y = np.ones((8, 4)), np.ones(8)
def train():
    keras.backend.clear_session()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
''')
class Numbers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Numbers
def used():
    gc.collect()
    return mallinfo().h
for _ in range(3):
    shell.run_cell("train()")
before = used()
for _ in range(5):
    shell.run_cell("train()")
print((used() - before) / 5)
"""


@pytest.mark.skipif(not GLIBC, reason="asks glibc how much memory is in use")
def test_a_cell_that_trains_can_be_run_again_and_again_without_taking_memory():
    assert float(run(AGAIN).stdout.split()[-1]) < 150_000


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
import ctypes, os, re, sys
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
print(os.read(read, 100_000).count(b"<heap nr"), os.cpu_count())
"""


@pytest.mark.skipif(not GLIBC, reason="asks glibc about its arenas")
def test_memory_is_shared_out_per_core_not_per_thread():
    arenas, cores = map(int, run(ARENAS).stdout.split()[-2:])
    assert arenas <= cores + 1
