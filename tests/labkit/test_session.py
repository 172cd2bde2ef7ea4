"""session.start and the cost of importing labkit, each in a process of its own."""

import os
import subprocess
import sys

import pytest


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
