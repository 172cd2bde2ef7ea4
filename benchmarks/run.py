"""Measures what students wait for: imports, training, whole labs and the whole test.

    labs bench                 imports, training and labs: about five minutes
    labs bench --test          `labs test` as well
    labs bench imports labs    only these parts
    labs bench study           a study against a plain loop of `fit`: fifteen minutes
    labs bench reproduction    the same for every row of the sources: ten minutes

Times are medians with their range; two ways of doing one thing are run in turn and compared as a ratio, because a
machine's speed drifts. Keep the machine quiet meanwhile.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from prettytable import PrettyTable

from labkit import runner

REPEATS = 7


def measure(code):
    """Run Python code in a fresh process; return the number that it prints."""
    environment = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return float(done.stdout.split()[-1])


def show(values):
    """Median and range, in seconds."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def imports():
    """Seconds that each import adds, beyond NumPy's own."""
    timed = "import numpy, time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    statements = {
        "labkit": "import labkit",
        "what a lab without Keras imports": "from labkit import session, plots, claims, exercises",
        "what a lab with Keras imports": "from labkit import session, data; session.start(1)",
    }
    seconds = {name: [] for name in statements}
    for _ in range(REPEATS):
        for name, statement in statements.items():
            seconds[name].append(measure(timed.format(statement)))
    table = PrettyTable(["import", f"seconds beyond NumPy, median of {REPEATS} (range)"], align="l")
    table.add_rows([[name, show(values)] for name, values in seconds.items()])
    print(table)


TRAINING = """
from labkit import session
session.start(1)
import keras, sys, time
import numpy as np
from keras import layers
generator = np.random.default_rng(1)
x, y = generator.random((12_800, 784), dtype="float32"), generator.integers(0, 10, 12_800)
model = keras.Sequential([keras.Input((784,)), *(layers.Dense(WIDTH, "relu") for _ in range(DEPTH)), layers.Dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"], OPTIONS)
model.fit(x, y, batch_size=128, epochs=1, verbose=0)
start = time.perf_counter()
model.fit(x, y, batch_size=128, epochs=5, verbose=0)
print(time.perf_counter() - start)
"""


def training():
    """The labs' setting of `compile` against Keras's own, as a ratio of training times."""
    table = PrettyTable(["network", "plain Keras, s", "steps_per_execution=64, s", "ratio, pair by pair"], align="l")
    for name, width, depth in (("784-60-10", 60, 1), ("784-512-512-10", 512, 2)):
        code = TRAINING.replace("WIDTH", str(width)).replace("DEPTH", str(depth))
        plain, ours = [], []
        for _ in range(REPEATS - 2):
            plain.append(measure(code.replace(", OPTIONS", "")))
            ours.append(measure(code.replace("OPTIONS", "steps_per_execution=64")))
        ratios = [a / b for a, b in zip(plain, ours, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row([name, show(plain), show(ours), spread])
    print(table)


def labs():
    """Seconds and peak memory of each lab, alone on the machine, on MNIST (if there is one) and on the digits."""
    from labkit import data

    chosen = os.environ.get("LABKIT_DATA")
    table = PrettyTable(["lab", "data", "seconds", "peak MB", "claims", "failure"], align="l")
    for name, value in (("MNIST", chosen), ("digits", "digits")):
        os.environ.pop("LABKIT_DATA", None)
        if value:
            os.environ["LABKIT_DATA"] = value
        if name == "MNIST" and not data.has_mnist():
            print("No MNIST here (see `labs data`), so the labs are measured on the bundled digits only.")
            continue
        for result in runner.run(runner.find_labs(), jobs=1, report=lambda _: None):
            row = [result.name, name, f"{result.seconds:.1f}", result.peak_mb, result.claims, result.failure or ""]
            table.add_row(row)
    os.environ.pop("LABKIT_DATA")
    if chosen:
        os.environ["LABKIT_DATA"] = chosen
    print(f"{os.cpu_count()} cores")
    print(table)


STUDY = """
import tempfile, time
from labkit import runner, study
if __name__ == "__main__":
    whole = next(s for s in study.of_notebook(*runner.find_labs(["02"])) if s.name == "02.nine")
    schedule = {"epochs": whole.epochs, "batch_size": whole.batch_size}
    build, load = whole.functions["build"], whole.functions["load"]
    part = study.Study("00.bench", build, load, whole.options, seeds=[1], where=tempfile.mkdtemp(), **schedule)
    start = time.perf_counter()
    RUN
    print(time.perf_counter() - start)
"""
LOOP = """
    import keras
    for chosen, seed in part.grid():
        keras.utils.set_random_seed(seed)
        mnist = load(chosen["n_train"])
        model = build(chosen["hidden"], chosen["method"])
        validation = (mnist.x_valid, mnist.y_valid)
        model.fit(mnist.x_train, mnist.y_train, validation_data=validation, verbose=0, **schedule)
        for x, y in ((mnist.x_train, mnist.y_train), validation, (mnist.x_test, mnist.y_test)):
            model.evaluate(x, y, verbose=0)
"""


def study():
    """Lab 02's nine networks, one seed, all epochs: a study against a plain loop of `fit`, as a ratio of times."""
    plain, ours = [], []
    for _ in range(2):
        plain.append(measure(STUDY.replace("    RUN", LOOP)))
        ours.append(measure(STUDY.replace("RUN", "part.record()")))
        print(f"plain loop {plain[-1]:.0f} s, study {ours[-1]:.0f} s, ratio {plain[-1] / ours[-1]:.2f}", flush=True)


REPRODUCTION = """
import re, tempfile, time
from pathlib import Path
import nbformat
from labkit import runner, study
if __name__ == "__main__":
    notebook = nbformat.read(*runner.find_labs(["90"]), as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r'"epochs": (\\d+)', lambda found: f'"epochs": {int(found[1]) // SHARE}', cell.source)
    folder = Path(tempfile.mkdtemp())
    nbformat.write(notebook, folder / "90.ipynb")
    whole = {one.name: one for one in study.of_notebook(folder / "90.ipynb")}
    short, long = whole["90.short"], whole["90.long"]
    rows = [*short.options["row"], "D6", *long.options["row"], "B1", "B2", "B3"]
    functions = {role: short.functions[role] for role in ("build", "load", "epochs", "batch_size", "callbacks")}
    part = study.Study("00.bench", options={"row": rows}, seeds=[1], where=folder, **functions)
    start = time.perf_counter()
    RUN
    print(time.perf_counter() - start)
"""
ROWS = """
    import keras
    build, load, epochs, batch_size, callbacks = functions.values()
    for row in rows:
        keras.utils.set_random_seed(1)
        mnist, model = load(row), build(row)
        model.fit(
            mnist.x_train, mnist.y_train, validation_data=(mnist.x_valid, mnist.y_valid), verbose=0,
            epochs=epochs(row), batch_size=batch_size(row), callbacks=callbacks(row),
        )
        model.evaluate(mnist.x_test, mnist.y_test, verbose=0)
        keras.backend.clear_session()
"""
SHARE = 10


def reproduction():
    """Every trained row of the sources, one seed, a tenth of its epochs: the study against plain calls of `fit`."""
    code = REPRODUCTION.replace("SHARE", str(SHARE))
    plain, ours = measure(code.replace("    RUN", ROWS)), measure(code.replace("RUN", "part.record()"))
    print(f"plain calls {plain:.0f} s, study {ours:.0f} s, ratio {plain / ours:.2f}")


def test():
    """Seconds of the whole `labs test`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "labkit.cli", "test", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (done.stdout + done.stderr).strip().splitlines()[-1:]
    print(f"labs test: {time.perf_counter() - start:.0f} s, exit status {done.returncode}", *last)


def main():
    parts = {"imports": imports, "training": training, "labs": labs, "study": study}
    parts |= {"reproduction": reproduction, "test": test}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="what to measure (everything but `test`)")
    parser.add_argument("--test", action="store_true", help="measure `labs test` too")
    chosen = parser.parse_args()
    runner.fix_data_path()
    names = chosen.parts or ["imports", "training", "labs"]
    for name in [*names, *(["test"] if chosen.test else [])]:
        print(parts[name].__doc__.splitlines()[0])
        parts[name]()


if __name__ == "__main__":
    main()
