"""A study of four runs that are a second long, and how to define one in the form of notebook cells."""

import itertools
import linecache

# A study of four runs of a network with a few units, each a second long.
TINY = """
import os
import random
import time

from labkit import study
from labkit.data import Dataset

UNITS = {"wide": 3, "narrow": 2}
PAUSE = 0


def load(n):
    import numpy as np

    random.random()  # whatever chance the data needs, the network is the same
    generator = np.random.default_rng(0)
    x = generator.random((n + 64, 4), dtype=np.float32)
    y = (x.sum(axis=1) > 2).astype("int64")
    return Dataset(x[:n], y[:n], x[n : n + 32], y[n : n + 32], x[n + 32 :], y[n + 32 :], f"noise {n}", "made here")


def build(width, seed):
    import keras

    hidden = keras.layers.Dense(UNITS[width], activation="tanh")
    time.sleep(PAUSE)
    layers = [hidden, keras.layers.Dropout(0.2), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers], name=f"model_{seed}")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def callbacks(width):
    import keras

    class Note(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            logs["units"] = UNITS[width]
            logs["named"] = int(self.model.name.split("_")[1])
            logs["process"] = os.getpid()

    return [Note()]


tiny = study.Study(
    "02.tiny",
    build,
    load,
    {"n": [64], "width": ["wide", "narrow"]},
    seeds=(2, 1),
    epochs=2,
    batch_size=32,
    callbacks=callbacks,
    where=FOLDER,
)
"""
numbers = itertools.count()


def define(source, folder=None, **changes):
    """Run source text as a notebook runs its cells; return its globals. changes: name -> a value given beforehand."""
    name = f"<a cell {next(numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace = {"__name__": "__main__", "FOLDER": folder, **changes}
    exec(compile(source, name, "exec"), namespace)
    return namespace


def changed(source, *replacements):
    for old, new in replacements:
        assert source.count(old) >= 1, old
        source = source.replace(old, new)
    return source


def tiny(folder, *replacements):
    """The tiny study with its record in this folder, its source changed by pairs of texts (old, new)."""
    return define(changed(TINY, *replacements), folder)["tiny"]


def edit(folder, change):
    """Rewrite the lines of the record in this folder with a function: list of texts -> list of texts."""
    path = folder / "02.tiny.jsonl"
    path.write_text("".join(change(path.read_text("utf-8").splitlines(keepends=True))), encoding="utf-8")


def without(*gone):
    return lambda lines: [line for number, line in enumerate(lines) if number not in gone]


# Never trained: only its digest is asked for.
CODE = '''
import functools
import math

import numpy as np

from labkit import study

DEPTH = 2
SIZES = [8, (4, 2)]
GAINS = {"relu": {"gain": 1.5}}
UNRELATED = 1
add = 1


def double(x):
    # A comment.
    return 2 * x


def outer(x):
    return double(x)


def first():
    return 1


METHODS = {"first": {"make": first}}


class Layer:
    def call(self, x):
        return x + 1


class Alone:
    def call(self, x):
        return x + 7


def load(n):
    return n


def build(units):
    """Text."""

    def inner():
        return DEPTH

    add_here = units
    model = Layer()
    model.add(SIZES, GAINS, outer(add_here), METHODS, math.pi, "# no comment")
    return [inner() for _ in range(3)]


def callbacks(units):
    return [units]


one = study.Study("02.x", build, load, {"n": [1], "units": [2]}, seeds=[1], epochs=3, batch_size=8, callbacks=callbacks)
'''


def digest(*replacements):
    return define(changed(CODE, *replacements))["one"].digest
