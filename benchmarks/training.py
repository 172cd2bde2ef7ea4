"""Training one network: plain Keras against the labs' settings, PyTorch as a yardstick, and how the cost grows.

The networks are rows of lab 90, so they are built by that lab's code and trained in its batches. All ways of training
one network take turns in one process, epoch by epoch, because a machine's speed drifts; several processes, each with
a seed of its own, show whether the results are the same. Seconds are those of steady training; what a first epoch
costs more, for building the program, is a column of its own.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

from labkit import runner

NETWORKS = {  # row of lab 90: (what it is, images of a timed epoch)
    "A1": ("784-512-512-10, SGD, batches of 128", 12_800),
    "D3": ("784-512-512-10, Adam, batches of 32", 6_400),
    "C4": ("11 sigmoid layers of 49, SGD, batches of 128", 25_600),
    "E9": ("512-256-128-64-32, BN and dropout, Adam, batches of 128", 12_800),
    "B1": ("CNN of lab 05, Adam, batches of 32", 3_200),
}
STEPS = {"steps_per_execution": 64}
WAYS = {"plain": {}, "steps": STEPS, "steps and XLA": STEPS | {"jit_compile": True}}
SEEDS = (1, 2, 3)
ROUNDS = 3  # a multiple of the ways, so that each is equally often first
EPOCHS = 4  # of each timed fit
N_CHECK = 2_000  # images, not trained on, for the accuracy
YARDSTICK = ("A1", "D3", "B1")  # trained by PyTorch too
PEAK_SIZE = 2048


def one_network(row, seed, path):
    """Train a row of lab 90 in all ways, in turn. Returns a dict of measurements; run in a process of its own.

    path: where its images and labels are left, for PyTorch.
    """
    from labkit import session, study

    session.start(seed)
    import keras
    import numpy as np

    short = next(one for one in study.of_notebook(*runner.find_labs(["90"])) if one.name == "90.short")
    data, images = short.functions["load"](row), NETWORKS[row][1]
    x, y = (np.resize(array, (images, *array.shape[1:])) for array in (data.x_train[:images], data.y_train[:images]))
    x_check, y_check = data.x_valid[:N_CHECK], data.y_valid[:N_CHECK]
    classes = {"y": y, "y_check": y_check}
    classes = {name: labels.argmax(axis=1) if labels.ndim == 2 else labels for name, labels in classes.items()}
    np.savez(path, x=x.reshape(-1, 784), x_check=x_check.reshape(-1, 784), **classes)
    schedule = {"batch_size": short.functions["batch_size"](row), "verbose": 0}
    peak = peak_flops()
    models, seconds = {}, {way: [] for way in WAYS}
    first = {}
    for way, settings in WAYS.items():
        keras.utils.set_random_seed(seed)
        models[way] = short.functions["build"](row)
        for name, value in settings.items():
            setattr(models[way], name, value)
        first[way] = timed(models[way].fit, x, y, epochs=1, **schedule)
    for turn in range(ROUNDS):
        for way in sorted(WAYS, key=lambda way: (list(WAYS).index(way) + turn) % len(WAYS)):
            each = timed(models[way].fit, x, y, epochs=EPOCHS, **schedule) / EPOCHS
            seconds[way].append(each)
    accuracy = {way: models[way].evaluate(x_check, y_check, batch_size=1000, verbose=0)[1] for way in WAYS}
    flops = images * training_flops(models["plain"])
    return {"seconds": seconds, "first": first, "accuracy": accuracy, "flops": flops, "peak": peak}


def timed(call, *arguments, **settings):
    """Seconds that the call takes."""
    start = time.perf_counter()
    call(*arguments, **settings)
    return time.perf_counter() - start


def training_flops(model):
    """Floating-point operations of one image's way forward and back, in the layers that multiply matrices.

    Forward, each weight is used once per place in the image: a multiplication and an addition. Back, twice more: for
    the gradient of the weights, and for that of the inputs, which the first layer does without.
    """
    counts = []
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            places = layer.output.shape[1] * layer.output.shape[2] if len(layer.output.shape) == 4 else 1
            counts.append(2 * int(kernel.shape.num_elements()) * places)
    return 3 * sum(counts) - counts[0]


def peak_flops():
    """The machine's floating-point operations per second: the best of ten products of two large float32 matrices."""
    import tensorflow as tf

    a, b = tf.random.normal((PEAK_SIZE, PEAK_SIZE)), tf.random.normal((PEAK_SIZE, PEAK_SIZE))
    return 2 * PEAK_SIZE**3 / min(timed(lambda: tf.matmul(a, b).numpy()) for _ in range(10))


def in_process(*arguments, python=sys.executable, script=__file__, **environment):
    """Run this file, or another, in a process of its own; return what it prints, read as JSON."""
    command = [python, str(script), *map(str, arguments)]
    settings = os.environ | {"MPLBACKEND": "agg"} | {name: str(value) for name, value in environment.items()}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False, cwd=runner.ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def training():
    """Each network in all ways, and by PyTorch: one row each, written to benchmarks/results/training.json."""
    found = {row: {"keras": [], "torch": []} for row in NETWORKS}
    with tempfile.TemporaryDirectory() as folder:
        torch = torch_python(folder)
        for seed in SEEDS:
            for row in NETWORKS:
                path = Path(folder) / "images.npz"
                found[row]["keras"].append(in_process("--one", row, "--seed", seed, "--images", path))
                if torch and row in YARDSTICK:
                    arguments = (row, seed, NETWORKS[row][1], ROUNDS, EPOCHS, path)
                    found[row]["torch"].append(in_process(*arguments, python=torch, script=_yardstick()))
                print(f"{row}, seed {seed}: measured", flush=True)
    rows = [summary(row, measured) for row, measured in found.items()]
    record.write("training", rows, one_network, training_flops, peak_flops, summary)
    return [
        {"network": row["network"], "plain, s": row["plain"]["seconds"]}
        | {f"{way}, ratio": row[way]["ratio"] for way in WAYS if way != "plain"}
        | {"PyTorch, ratio": row.get("torch", {}).get("ratio", "")}
        for row in rows
    ]


def summary(row, measured):
    """One row of the table from what the processes of one network have measured."""
    runs = measured["keras"]
    line = {"row": row, "network": NETWORKS[row][0], "images": NETWORKS[row][1], "epoch_flops": runs[0]["flops"]}
    line["peak_gflops"] = max(run["peak"] for run in runs) / 1e9
    line["epochs"] = 1 + ROUNDS * EPOCHS  # trained before the accuracy was taken
    line["xla_against_steps"] = pairs(runs, "steps", "steps and XLA")
    for way in WAYS:
        seconds = [value for run in runs for value in run["seconds"][way]]
        line[way] = {
            "seconds": statistics.median(seconds),
            "spread": [min(seconds), max(seconds)],
            **pairs(runs, "plain", way),
            "start": statistics.median(run["first"][way] - min(run["seconds"][way]) for run in runs),
            "share_of_peak": line["epoch_flops"] / statistics.median(seconds) / line["peak_gflops"] / 1e9,
            "accuracy": [run["accuracy"][way] for run in runs],
        }
    if measured["torch"]:
        seconds = [value for run in measured["torch"] for value in run["seconds"]]
        line["torch"] = {"seconds": statistics.median(seconds), "spread": [min(seconds), max(seconds)]}
        line["torch"]["ratio"] = line["plain"]["seconds"] / line["torch"]["seconds"]
        line["torch"]["accuracy"] = [run["accuracy"] for run in measured["torch"]]
        line["torch"]["version"] = measured["torch"][0]["version"]
    return line


def pairs(runs, slow, quick):
    """Ratios of the seconds of two ways that took turns: their median and quartiles."""
    found = [a / b for run in runs for a, b in zip(run["seconds"][slow], run["seconds"][quick], strict=True)]
    first, middle, third = statistics.quantiles(found)
    return {"ratio": middle, "ratio_quartiles": [first, third]}


def _yardstick():
    return Path(__file__).with_name("yardstick.py")


def torch_python(folder):
    """A Python with PyTorch, in an environment made for this benchmark only; None, with a sentence, if there is none.

    LABKIT_TORCH may name such a Python; it needs torch and NumPy.
    """
    if os.environ.get("LABKIT_TORCH"):
        return os.environ["LABKIT_TORCH"]
    python = Path(folder) / "torch" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "torch==2.13.0", "numpy"]
    for command in ([sys.executable, "-m", "venv", str(Path(folder) / "torch")], pip):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            print("PyTorch could not be installed, so its column stays empty.")
            return None
    return python


# --- how the cost grows ---

GROWTH = {  # axis: the values it takes, while the others keep theirs
    "images": (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000),
    "width": (16, 32, 64, 128, 256, 512, 1024, 2048),
    "depth": (1, 2, 4, 8, 16, 32),
}
FIXED = {"images": 6_400, "width": 128, "depth": 2}
STUDY_SEEDS = (1, 2, 4, 8, 16)


def growth_of(axis):
    """Seconds per epoch along one axis, as a list of (value, seconds); run in a process of its own."""
    from labkit import session

    session.start(1)
    import keras
    import numpy as np
    from keras import layers

    rng, found = np.random.default_rng(1), []
    for value in GROWTH[axis]:
        images, width, depth = (FIXED | {axis: value}).values()
        x, y = rng.random((images, 784), dtype="float32"), rng.integers(0, 10, images)
        stack = [layers.Dense(width, activation="relu") for _ in range(depth)]
        model = keras.Sequential([keras.Input((784,)), *stack, layers.Dense(10, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy", **STEPS)
        model.fit(x, y, batch_size=128, epochs=1, verbose=0)
        found.append((value, min(timed(model.fit, x, y, batch_size=128, verbose=0) for _ in range(3))))
        keras.backend.clear_session()
    return found


def growth_of_seeds(jobs):
    """Seconds of a study of one small network against the number of its seeds, as a list of (seeds, seconds)."""
    from labkit import session, study

    session.start(1)
    whole = next(s for s in study.of_notebook(*runner.find_labs(["02"])) if s.name == "02.nine")
    options = {name: values[:1] for name, values in whole.options.items()}
    found = []
    for seeds in STUDY_SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            part = study.Study(
                "00.growth", whole.functions["build"], whole.functions["load"], options,
                seeds=range(1, seeds + 1), epochs=2, batch_size=128, where=folder,
            )  # fmt: skip
            found.append((seeds, timed(part.record, jobs)))
    return found


def growth():
    """All axes, written to benchmarks/results/growth.json: one row a point."""
    rows = []
    for cores in range(1, (os.cpu_count() or 1) + 1):
        threads = runner.kernel_settings(cores)
        for axis in GROWTH:
            points = in_process("--growth", axis, **threads)
            rows += [{"axis": axis, "cores": cores, "value": value, "seconds": seconds} for value, seconds in points]
        points = in_process("--seeds", cores)
        rows += [{"axis": "seeds", "cores": cores, "value": value, "seconds": seconds} for value, seconds in points]
        print(f"{cores} cores: measured", flush=True)
    record.write("growth", rows, growth_of, growth_of_seeds)
    return rows


if __name__ == "__main__":
    chosen = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    if "--one" in chosen:
        print(json.dumps(one_network(chosen["--one"], int(chosen["--seed"]), chosen["--images"])))
    elif "--growth" in chosen:
        print(json.dumps(growth_of(chosen["--growth"])))
    elif "--seeds" in chosen:
        print(json.dumps(growth_of_seeds(int(chosen["--seeds"]))))
