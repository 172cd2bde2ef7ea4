"""session.start and the cost of importing labkit, each in a process of its own."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from labtools import run as labs

posix_only = pytest.mark.skipif(os.name == "nt", reason="there, processes are ended and interrupted otherwise")
START = "from labkit import session; session.start(1)\n"
NUMPY = "from labkit import session; session.start(1, keras=False)\n"
# In place of Keras, so that most tests need not wait for it: what TensorFlow's C++ code writes, and what start calls.
KERAS = """import contextlib, os, sys
with contextlib.suppress(OSError):
    os.write(2, b"I0000 port.cc] oneDNN custom operations are on. You may see\\n")
    print("Python speaks", file=sys.stderr, flush=True)
    os.write(2, b"E0000 C++ speaks")
{}
class config: set_image_data_format = set_floatx = set_epsilon = print
class utils: set_random_seed = print
"""


def run(code, cwd=None, status=0, **environment):
    """Run code in a process of its own; return what it wrote."""
    env = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"} | environment
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def keras(tmp_path):
    """A function that puts a stand-in for Keras on the path, and runs code; `last`: what it does last."""

    def with_keras(code, last="", **options):
        (tmp_path / "keras.py").write_text(KERAS.format(last), encoding="utf-8")
        return run(code, PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]), **options)

    return with_keras


def test_importing_labkit_imports_nothing_slow():
    code = "import sys, labkit, labkit.exercises, labkit.claims; print(*(m for m in {!r} if m in sys.modules))"
    assert run(code.format(["tensorflow", "keras", "matplotlib", "sklearn", "pandas", "scipy"])).stdout.strip() == ""


def test_start_is_quiet_keeps_onednn_and_takes_no_setting_of_the_users(tmp_path):
    settings = {"floatx": "float64", "epsilon": 0.5, "backend": "jax", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings), encoding="utf-8")
    code = START + (
        "import keras, os, numpy as np; print(keras.backend.backend(), keras.config.epsilon(), keras.config.floatx())\n"
        "model = keras.Sequential([keras.Input((3, 3, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()])\n"
        "model.compile(loss='mse'); x = np.ones((8, 3, 3, 1)); fit = model.fit(x, x[:, 0, :2], epochs=3, verbose=0)\n"
        "print(model(x).dtype, len(fit.epoch), os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'on'))"
    )
    done = run(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND="torch", KERAS_MAX_EPOCHS="1")
    assert (done.stdout, done.stderr) == ("tensorflow 1e-07 float32\n<dtype: 'float32'> 3 on\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other builds of TensorFlow may say nothing")
def test_what_start_silences_is_really_there_and_a_late_start_says_what_to_do():
    late = run("import tensorflow\n" + START + "session.start(1)")
    assert late.stderr != "" and late.stdout.count("restart the kernel") == 1
    assert run(START + "session.start(1)").stdout == ""


def test_a_seed_repeats_everything():
    code = START + (
        "import keras, random, numpy as np, tensorflow as tf\n"
        "for seed in (7, 7, 8):\n    session.start(seed)\n"
        "    dense = keras.layers.Dense(2); dense.build((None, 2))\n"
        "    print(tf.random.uniform(()).numpy(), end=' ')\n"  # what shuffles in `fit`
        "    print(random.random(), np.random.random(), dense.kernel.numpy().ravel())"
    )
    first, again, other = run(code).stdout.strip().splitlines()
    assert first == again != other


def test_without_keras_no_tensorflow_and_the_same_seed():
    code = NUMPY + (
        "import sys, numpy as np; print(np.random.random(), 'tensorflow' in sys.modules)\n"
        "np.random.seed(1); print(np.random.random(), False)\n"
        "import matplotlib.pyplot as plt; print(plt.rcParams['axes.prop_cycle'].by_key()['color'][0])"
    )
    first, again, colour = run(code, MPLBACKEND="agg").stdout.strip().splitlines()
    assert first == again and first.endswith("False") and colour == "#0072B2"


def test_a_home_that_cannot_be_written_to_goes_without_a_word(tmp_path):
    (tmp_path / "file").touch()
    code = NUMPY + "import logging; logging.getLogger('matplotlib').warning('heard')"
    assert run(code, MPLCONFIGDIR=str(tmp_path / "file" / "matplotlib")).stderr == "heard\n"


def test_tensorflows_greeting_is_left_out_and_nothing_else(keras):
    done = keras(START + "import os; os.write(2, b', and after')")
    assert done.stderr == "Python speaks\nE0000 C++ speaks, and after"


@posix_only
def test_what_is_said_just_before_a_crash_comes_out(keras):
    assert keras(START, "os.abort()", status=-6).stderr == "Python speaks\nE0000 C++ speaks"


@posix_only
def test_an_interrupt_of_the_kernels_group_reaches_the_kernel_and_says_nothing_else(keras):
    interrupt = "import signal, time; os.killpg(os.getpgrp(), signal.SIGINT); time.sleep(9)"
    done = keras(f"import os; os.setpgid(0, 0)\ntry:\n    {START}except KeyboardInterrupt: print('stopped')", interrupt)
    assert (done.stdout, done.stderr) == ("stopped\n", "Python speaks\nE0000 C++ speaks")


def test_it_works_in_a_process_without_stderr(keras):
    assert keras("import os; os.close(2)\n" + START).stdout.split() == ["channels_last", "float32", "1e-07", "1"]


@pytest.mark.parametrize("error", ["ModuleNotFoundError('No module tensorflow')", "AttributeError('an old NumPy')"])
def test_a_missing_or_broken_keras_is_one_sentence(keras, error):
    code = f"from labkit.errors import LabError\ntry:\n    {START}except LabError as error: print(error)"
    said = keras(code, f"raise {error}").stdout
    assert error.split("'")[1] in said and "`labs doctor`" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["numpy.py", "matplotlib/__init__.py", "keras.py", "tensorflow.py"])
def test_a_file_beside_the_notebook_that_hides_a_package_is_named(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    said = run(START, cwd=tmp_path, status=1).stderr
    assert f"LabError: {tmp_path / name} hides the package {name.replace('/', '.').split('.')[0]}: rename" in said


def test_in_a_kernel_the_last_value_stays_at_hand_and_a_figure_has_its_text_whatever_its_format(tmp_path):
    cells = ["%config InlineBackend.figure_formats = ['svg']", NUMPY, "6 * 7",
             "print(_, Out[3])", "from labkit import plots; plots.describe(*plots.row(1), 'A sentence.')"]  # fmt: skip
    path = tmp_path / "01_a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in cells]), path)
    assert labs.run([path], jobs=1, save=True)[0].failure is None
    *_, last, (figure,) = (cell.outputs for cell in nbformat.read(path, 4).cells)
    assert last[0].text == "42 42\n"
    assert figure.data["text/plain"] == "A sentence." and '<img alt="A sentence."' in figure.data["text/html"]
