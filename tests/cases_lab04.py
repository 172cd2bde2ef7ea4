"""Lab 04's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import math

import numpy as np

from labkit.data import Dataset


def blobs(n, rng):
    """Images that a small network learns in no time: (n, 784) float32, and labels (n,)."""
    labels = rng.integers(0, 10, n)
    return (rng.normal(0, 0.1, (n, 784)) + 3 * np.eye(10, 784)[labels]).astype("float32"), labels


_rng = np.random.default_rng(1)
DATA = Dataset(*blobs(2_000, _rng), *blobs(500, _rng), *blobs(10, _rng), name="blobs", source="made here")


def network(hidden=3, activation="relu", optimizer="adam", loss="sparse_categorical_crossentropy", outputs=10):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((784,)), *(layers.Dense(32, activation) for _ in range(hidden))])
    model.add(layers.Dense(outputs, "softmax"))
    if optimizer:
        model.compile(optimizer, loss)
    return model


def functional():
    import keras
    from keras import layers

    x = inputs = keras.Input((784,))
    for _ in range(4):
        x = layers.Activation("tanh")(layers.BatchNormalization()(layers.Dense(24)(x)))
    model = keras.Model(inputs, layers.Dense(10, "softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


_kept = []


def the_same_again():
    if not _kept:
        _kept.append(network())
    return _kept[0]


def entropy(labels):
    shares = np.bincount(labels) / len(labels)
    return -sum(p * math.log(p) for p in shares if p)


def entropy_with_nan(labels):
    shares = np.bincount(labels) / len(labels)
    with np.errstate(all="ignore"):
        return -(shares * np.log(shares)).sum()


CASES = {
    "04.parameters": ({}, [(8065, 63465, 177715), np.array([8065.0, 63465.0, 177715.0])], [
        ((177715, 63465, 8065), "wrong order"), ((7956, 62916, 176616), "counted the weights"),
        ((7965, 62965, 176715), "output layer is missing"), ((8155, 65915, 187615), "784 inputs"),
        ((7975, 61015, 167815), "not nine"), ((8065, 63465, 177716), "for 99 units"), ((1, 2, 3), "for 9 units"),
        (8065, "3 numbers"),
    ]),
    "04.constant-class": ({"answers": np.full(20, 7)}, [7, np.int64(7)], [
        (1, "a good guess"), (3, "never answers 3"), (0.7, "a digit"), (11, "a digit"),
        ("7", "text"),
    ]),
    "04.entropy": ({}, [1.5 * math.log(2), 1.0397, 1.04, np.float64(0.5 * math.log(2) + 0.5 * math.log(4))], [
        (math.log(3), "three equal shares"), (1.0986, "three equal shares"),
        (1.5, "in bits"), (-1.5 * math.log(2), "minus sign"),
        (math.log(2), "cats alone"), (0.5, "accuracy"), (1.5 * math.log10(2), "base 10"), (5 * math.log(2), "weigh"),
        (7, "add up share"),
    ]),
    "04.constant-loss": ({}, [entropy, lambda labels: float(np.log(len(labels)) - sum(
        c * np.log(c) for c in np.unique(labels, return_counts=True)[1]) / len(labels))], [
        (entropy_with_nan, "0 times"), (lambda labels: -entropy(labels), "wrong way round"),
        (lambda labels: entropy(labels) / math.log(2), "in bits"),
        (lambda labels: math.log(len(set(labels))), "equal shares"),
        (lambda labels: math.log(10), "whatever the labels"),
        (lambda labels: np.bincount(labels).max() / len(labels), "accuracy"),
        (lambda labels: -math.log(np.bincount(labels).max() / len(labels)), "most common label alone"),
        (lambda labels: 2.0, "so it is"), (lambda labels: None, "returns nothing"), (2.3, "is a function"),
    ]),
    "04.layers": ({}, [5, 5.0], [
        (4, "1/256"), (6, "one layer earlier"), (10, "one half"), (250, "multiply"), (3, "tenth"),
        (4.983, "whole"), (7, "at which power"),
    ]),
    "04.gain": ({}, [4, 4.0], [
        (16, "square root"), (2, "double"), (0.25, "worse"), (8, "grow"), (1, "a quarter is passed on"), (3, "product"),
    ]),
    "04.relu": ({}, [2, 2.0], [
        (1, "half of it"), (4, "half of the squares"), (0.5, "wrong way round"), (math.sqrt(2), "Variance goes"),
        (16, "sigmoid"), (3, "mean of z squared"),
    ]),
    "04.deep-network": ({"data": DATA}, [network, functional, lambda: network(5, "elu", "rmsprop")], [
        (7, "is a function"), (lambda: 7, "not a Keras model"), (the_same_again, "the same network"),
        (lambda: network(outputs=1), "outputs of shape"), (lambda: network(hidden=2), "2 hidden Dense layers"),
        (lambda: network(hidden=1), "1 hidden Dense layer;"), (lambda: network(optimizer=None), "not been compiled"),
        (lambda: network(3, "linear"), "without activations"),
        (lambda: network(loss="categorical_crossentropy"), "whole numbers"),
        (lambda: network(11, "sigmoid", "sgd"), "answers all images alike"),
        (lambda: network(3, "tanh", "adagrad"), "get over 92%"), (lambda: None, "returns nothing"),
    ]),
}  # fmt: skip
