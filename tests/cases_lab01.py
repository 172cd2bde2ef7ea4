"""Lab 01's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

from types import SimpleNamespace

import numpy as np
from answers import Make


def functional(hidden=32, activation="relu", join=True, outputs="softmax", second=False):
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    x = layers.Dense(hidden, activation=activation)(inputs)
    if second:
        x = layers.Dense(hidden, activation=activation)(x)
    if join:
        x = layers.Concatenate()([inputs, x])
    return keras.Model(inputs, layers.Dense(10, activation=outputs)(x))


def swapped_join():
    import keras
    from keras import layers

    inputs = keras.Input((784,), name="paper")
    hidden = layers.Activation("relu")(layers.Dense(32)(inputs))
    joined = layers.Concatenate()([hidden, inputs])
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(joined))


def softmax_apart():
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    hidden = keras.ops.relu(layers.Dense(32)(inputs))
    logits = layers.Dense(10)(layers.Concatenate()([inputs, hidden]))
    return keras.Model(inputs, layers.Softmax()(logits))


class FakeModel:
    """Answers `evaluate` with a known loss and accuracy for each set."""

    def evaluate(self, x, y, verbose):
        return {"train": (0.1, 0.98), "valid": (0.12, 0.97), "test": (0.13, 0.96)}[x]


three = {
    "model": FakeModel(),
    "data": SimpleNamespace(x_train="train", y_train=0, x_valid="valid", y_valid=0, x_test="test", y_test=0),
}
sizes, means = [10, 20, 30, 40], [0.5, 0.6, 0.55, 0.9]
r = np.corrcoef(sizes, means)[0, 1]


CASES = {
    "01.baseline": ({}, [0, 0.0], [
        (90, "what the program gets right"), (80, "'bad'"), (40, "coin"), (10, "wrong"), (5, "subtract"),
    ]),
    "01.weights": ({}, [(317_600, 410), [317_600.0, np.int64(410)]], [
        ((410, 317_600), "wrong order"), ((318_010, 410), "together"), ((313_600, 410), "first layer alone"),
        ((4_000, 410), "output layer alone"), ((314_000, 410), "with its biases"), ((1_194, 410), "added the units"),
        ((3_136_000, 410), "multiplies the layers"), ((5, 410), "inputs times its units"),
        ((317_600, 400), "ten outputs"), ((317_600, 10), "hidden units"), ((317_600, 1_194), "Pixels are given"),
        ((317_600, 2), "not for each layer"), ((317_600, 3), "has one bias"), (318_010, "2 numbers"),
    ]),
    "01.parameters": ({}, [lambda h: 795 * h + 10, lambda h: 785 * h + (h + 1) * 10], [
        (lambda h: 794 * h, "left out the biases"), (lambda h: 785 * h, "the hidden layer"),
        (lambda h: 795 * h, "ten biases"), (lambda h: 794 * h + 10, "biases of the hidden"),
        (lambda h: h + 10, "left out the weights"), (lambda h: 318_010, "always gives"),
        (lambda h: 794 * h + 794, "pixels have no bias"), (lambda h: h**2, "for h = 1"), (318_010, "is a function"),
        (lambda h: None, "returns nothing"), (lambda h: h / 0, "ZeroDivisionError"),
    ]),
    "01.widths": ({}, [(378, 62), np.array([378, 62])], [
        ((62, 378), "wrong order"), ((377, 62), "round up"), ((383, 62), "divide by 784"), ((400, 62), "smaller layer"),
        ((100, 62), "fewer than"), ((378, 63), "round down"), ((378, 70), "not below"), ((378, 60), "room for more"),
    ]),
    "01.step": ({}, [255**2, 65_025.0], [
        (255, "smaller pixel"), (1 / 255, "smaller still"), (1, "shrunk"), (510, "multiply"), (7, "shrink both"),
    ]),
    "01.correlation": ({"sizes": sizes, "means": means}, [r, round(r, 2), np.float32(r)], [
        (np.corrcoef(sizes, means), "whole table"), (1, "itself"), (r**2, "squared"), (-r, "sign"),
        (100 * r, "percentage"), (np.cov(sizes, means)[0, 1], "covariance"), (0.1, "computes it"),
    ]),
    "01.deep": ({}, [849_930, 849_930.0], [
        (847_872, "weights alone"), (2_058, "biases alone"), (840_020, "source D"), (839_680, "output layer"),
        (1_200_138, "784"), (587_274, "two layers"), (1, "four layers"),
    ]),
    "01.functional": ({}, [Make(functional), Make(swapped_join), Make(softmax_apart)], [
        (Make(functional, join=False), "no Concatenate"), (Make(functional, hidden=16), "800 numbers"),
        (Make(functional, activation="sigmoid"), "max(0, z)"), (Make(functional, activation="tanh"), "max(0, z)"),
        (Make(functional, outputs="linear"), "not probabilities"),
        (Make(functional, second=True), "one hidden layer"), (33_290, "Keras model"),
    ]),
    "01.standard-error": ({}, [lambda p, n: np.sqrt(p * (1 - p) / n), lambda p, n: (p / n - p**2 / n) ** 0.5], [
        (lambda p, n: p * (1 - p) / n, "variance"), (lambda p, n: np.sqrt(p * (1 - p)) / n, "under the root"),
        (lambda p, n: np.sqrt(p * (1 - p)), "single image"), (lambda p, n: 1.96 * np.sqrt(p * (1 - p) / n), "1.96"),
        (lambda p, n: np.sqrt(p / n), "1 - p"), (lambda p, n: 100 * np.sqrt(p * (1 - p) / n), "percentage"),
        (lambda p, n: p, "0.03"),
    ]),
    "01.three": (three, [(0.98, 0.97, 0.96), [np.float32(0.98), 0.9701, 0.96]], [
        ((98.0, 97.0, 96.0), "percentages"), ((0.1, 0.12, 0.13), "losses"), ((0.96, 0.97, 0.98), "wrong order"),
        ((0.02, 0.03, 0.04), "mistakes"), ((0.95, 0.97, 0.96), "averages"), ((0.98, 0.5, 0.96), "validation accuracy"),
        ((0.978, 0.971, 0.958), "four decimals"),
        (0.98, "3 numbers"),
    ]),
    "01.epoch-time": ({}, [391 * 0.002, 1, 0.8], [
        (0.002, "one step"), (2, "time of a step"), (782, "milliseconds"), (391, "number of steps"), (0.256, "batch"),
        (50, "multiply"),
    ]),
}  # fmt: skip
