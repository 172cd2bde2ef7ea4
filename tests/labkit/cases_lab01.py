"""Lab 01's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import functools
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


def small_weights():
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    hidden = layers.Dense(32, activation="relu", kernel_initializer=keras.initializers.RandomNormal(0, 0.01))(inputs)
    joined = keras.ops.concatenate([inputs, hidden], axis=-1)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(joined))


def listed():
    model = functional()
    return type(model)([model.input], [model.output])


def nested():
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    inner = keras.Sequential([keras.Input((784,)), layers.Dense(32), layers.ReLU()])
    joined = layers.Concatenate()([layers.Identity()(inputs), layers.Dropout(0.5)(inner(inputs))])
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(joined))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def subclass():
    import keras
    from keras import layers

    class Branched(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = layers.Dense(10, activation="softmax")
            self.hidden = layers.Dense(32, activation="relu")

        def call(self, x):
            return self.last(keras.ops.concatenate([x, self.hidden(x)], axis=-1))

    return Branched()


def stops():
    import keras

    class Stops(keras.Model):
        def call(self, x):
            raise RuntimeError("not today")

    return Stops()


def square():
    import keras
    from keras import layers

    inputs = keras.Input((28, 28))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.Flatten()(inputs)))


def two_inputs():
    import keras
    from keras import layers

    inputs = [keras.Input((784,)), keras.Input((784,))]
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.Concatenate()(inputs)))


def scaled_pixels():
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    hidden = layers.Dense(32, activation="relu")(inputs)
    joined = layers.Concatenate()([layers.Rescaling(2.0)(inputs), hidden])
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(joined))


def five_outputs():
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(inputs))


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


def by_zeros_and_ones(p, n):
    """The standard error as the spread of n answers, p of which are right."""
    right = round(p * n)
    return np.std([1] * right + [0] * (n - right)) / np.sqrt(n)


CASES = {
    "01.baseline": ({}, [0, 0.0], [
        (90, "what the program gets right"), (80, "'bad'"), (40, "coin"), (10, "wrong"), (5, "subtract"),
    ]),
    "01.weights": ({}, [(47_640, 70), [47_640.0, np.int64(70)], np.array([47_640, 70])], [
        ((70, 47_640), "wrong order"), ((47_710, 70), "together"), ((47_040, 70), "first layer alone"),
        ((600, 70), "output layer alone"), ((47_100, 70), "with its biases"), ((854, 70), "added the units"),
        ((470_400, 70), "multiplies the layers"), ((5, 70), "inputs times units"), ((317_600, 410), "400 units"),
        ((47_640, 60), "ten outputs"), ((47_640, 10), "hidden units"), ((47_640, 854), "Pixels are given"),
        ((47_640, 2), "not for each layer"), ((47_640, 3), "has one bias"), (47_710, "2 numbers"),
        ({"weights": 47_640, "biases": 70}, "in order"), ("47640, 70", "in order"),
    ]),
    "01.parameters": ({}, [
        lambda h: 795 * h + 10, lambda h: 785 * h + (h + 1) * 10, lambda h: np.float32(795 * h + 10),
    ], [
        (lambda h: 794 * h, "left out the biases"), (lambda h: 785 * h, "the hidden layer"),
        (lambda h: 795 * h, "ten biases"), (lambda h: 794 * h + 10, "biases of the hidden"),
        (lambda h: 794 * h + 11, "a bias of its own"), (lambda h: 795 * h + 10 + (h > 1), "for h = 60 it gives 47,711"),
        (lambda h: h + 10, "left out the weights"), (lambda h: 318_010, "every number of hidden units"),
        (lambda h: 794 * h + 794, "pixels have no bias"), (lambda h: h**2, "for h = 1"), (318_010, "is a function"),
        (lambda h: None, "returns nothing"), (lambda h: h / 0, "ZeroDivisionError"),
        (functools.partial(lambda h: h / 0), "ZeroDivisionError"), (lambda h: float("nan"), "no number that can"),
    ]),
    "01.widths": ({}, [(378, 62), np.array([378, 62])], [
        ((62, 378), "wrong order"), ((377, 62), "round up"), ((383, 62), "divide by 784"), ((400, 62), "smaller layer"),
        ((100, 62), "fewer than"), ((378, 63), "round down"), ((378, 70), "not below"), ((378, 60), "room for more"),
        ((299_990 / 795, 62), "come whole"), ((377.35, 62.88), "come whole"), ((378, 62.5), "62.5 is no number"),
        ((-3, 62), "no number of units"), ((378, float("nan")), "no number that can be right"),
    ]),
    "01.step": ({}, [255**2, 65_025.0, 6.503e4], [
        (253, "Powers are written"), (255, "smaller pixel"),
        (1 / 255, "smaller still"), (1, "shrunk"), (510, "multiply"), (7, "shrink both"),
    ]),
    "01.correlation": ({"sizes": sizes, "means": means}, [r, round(r, 2), np.float32(r)], [
        (np.corrcoef(sizes, means), "whole table"), (1, "itself"), (r**2, "squared"), (-r, "sign"),
        (100 * r, "percentage"), (np.cov(sizes, means)[0, 1], "covariance"), (0.1, "computes it"),
    ]),
    "01.deep": ({}, [849_930, 849_930.0], [
        (847_872, "weights alone"), (2_058, "biases alone"), (840_020, "source D"), (839_680, "output layer"),
        (1_200_138, "784"), (587_274, "two layers"), (1, "four layers"),
    ]),
    "01.functional": ({}, [
        Make(functional), Make(swapped_join), Make(softmax_apart), Make(small_weights), Make(listed), Make(nested),
        Make(subclass),
    ], [
        (Make(functional, join=False), "join the pixels"), (Make(functional, hidden=16), "800 numbers"),
        (Make(functional, activation="sigmoid"), "activation sigmoid"),
        (Make(functional, activation="tanh"), "max(0, z)"),
        (Make(functional, activation=None), "activation linear"), (Make(functional, activation="relu6"), "relu6"),
        (Make(functional, outputs="linear"), "not probabilities"), (Make(functional, outputs="sigmoid"), "Softmax"),
        (Make(functional, second=True), "one hidden layer"), (33_290, "Keras model"),
        (functional, "this is a function"),
        (Make(stops), "RuntimeError"), (Make(square), "input has shape"), (Make(two_inputs), "several"),
        (Make(five_outputs), "ten outputs"), (Make(scaled_pixels), "does not compute"),
    ]),
    "01.standard-error": ({}, [
        lambda p, n: np.sqrt(p * (1 - p) / n), lambda p, n: (p / n - p**2 / n) ** 0.5, by_zeros_and_ones,
        lambda p, n: np.sqrt(np.float32(p) * (1 - np.float32(p)) / n),
    ], [
        (lambda p, n: p * (1 - p) / n, "variance"), (lambda p, n: np.sqrt(p * (1 - p)) / n, "under the root"),
        (lambda p, n: np.sqrt(p * (1 - p)), "single image"), (lambda p, n: 1.96 * np.sqrt(p * (1 - p) / n), "1.96"),
        (lambda p, n: np.sqrt(p / n), "1 - p"), (lambda p, n: 100 * np.sqrt(p * (1 - p) / n), "percentage"),
        (lambda p, n: np.sqrt(0.1 * p / n), "only where p is 0.9"),
        (lambda p, n: np.sqrt(p * (1 - p) / (n - 1)), "n - 1"),
        (lambda p, n: np.sqrt(p * (1 - p) / 100), "n = 10,000"), (lambda p, n: p, "0.03"),
        (lambda p, n: round(np.sqrt(p * (1 - p) / n), 2), "n = 10,000 it gives 0; by the formula it is 0.0014"),
    ]),
    "01.three": (three, [(0.98, 0.97, 0.96), [np.float32(0.98), 0.9701, 0.96]], [
        ((98.0, 97.0, 96.0), "percentages"), ((0.1, 0.12, 0.13), "losses"), ((0.96, 0.97, 0.98), "wrong order"),
        ((0.02, 0.03, 0.04), "mistakes"), ((0.95, 0.97, 0.96), "an average"),
        ((0.98, 0.5, 0.96), "validation accuracy"), ((0.978, 0.971, 0.958), "four decimals"),
        (0.98, "3 numbers"), ([[0.1, 0.98], [0.12, 0.97], [0.13, 0.96]], "take the second"),
        ((0.978, 0.5, 0.96), "the training accuracy is not 0.9780"),
    ]),
    "01.epoch-time": ({}, [391 * 0.002, 1, 0.8, 0.78], [
        (0.6, "right size"), (1.2, "right size"),
        (0.002, "one step"), (2, "time of a step"), (782, "milliseconds"), (391, "number of steps"), (0.256, "batch"),
        (50, "multiply"),
    ]),
}  # fmt: skip
