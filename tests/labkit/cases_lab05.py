"""Lab 05's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import functools

import numpy as np


def pool(array, how=np.max):
    rows, columns = np.array(array.shape) // 2
    return how(array[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2), axis=(1, 3))


def pool_by_slices(array):
    rows, columns = (side // 2 * 2 for side in array.shape)
    parts = [array[r:rows:2, c:columns:2] for r in (0, 1) for c in (0, 1)]
    return np.maximum.reduce(parts)


def pool_padded(array):
    """As padding="same" does: the rest gets a square of its own."""
    rows, columns = (-side % 2 for side in array.shape)
    return pool(np.pad(array, ((0, rows), (0, columns)), constant_values=-np.inf))


def pool_from_the_end(array):
    rows, columns = (side % 2 for side in array.shape)
    return pool(array[rows:, columns:])


def overlapping(array):
    return np.lib.stride_tricks.sliding_window_view(array, (2, 2)).max(axis=(2, 3))


def network(
    middle="GlobalMaxPooling2D", *, filters=(32, 64), units=64, outputs="softmax", last=10, side=28, scale=1, **kept
):
    """Source B's network with another layer in place of Flatten: a function that builds it.

    kept: what should have been left as it is: activation, padding of the convolutions; pool, whether there is pooling.
    """
    pooled, convolution = kept.pop("pool", True), {"activation": "relu"} | kept

    def build():
        from keras import Input, Sequential, layers

        model = Sequential([Input((side, side, 1))])
        for count in filters:
            model.add(layers.Conv2D(count, 3, **convolution))
            if pooled:
                model.add(layers.MaxPooling2D(2))
        model.add(layers.Rescaling(scale))
        model.add(getattr(layers, middle)())
        model.add(layers.Dense(units, activation="relu"))
        model.add(layers.Dense(last, activation=outputs))
        return model

    return build


def dense():
    from keras import Input, Sequential, layers

    return Sequential([Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, activation="softmax")])


def rows_only():
    """The place is forgotten along the rows, and kept down the columns."""
    from keras import Input, Sequential, layers

    model = Sequential([Input((28, 28, 1))])
    for count in (32, 64):
        model.add(layers.Conv2D(count, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.MaxPooling2D((1, 5)))
    model.add(layers.Reshape((320,)))
    model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def rewritten(activation="relu", middle="GlobalMaxPooling2D", scored=False):
    """The cure in an unusual form: unusual activations, or a network inside another."""

    def build():
        from keras import Input, Sequential, layers, ops

        relu = {"ops": ops.relu, "own": lambda x: ops.maximum(x, 0)}.get(activation, activation)
        maps = [Input((28, 28, 1)), layers.Conv2D(32, 3, activation=relu), layers.MaxPooling2D(2)]
        maps += [layers.Conv2D(64, 3, activation=relu), layers.MaxPooling2D(2)]
        rest = [getattr(layers, middle)(), layers.Dense(64, activation=relu)]
        return Sequential([Sequential(maps), *rest, layers.Dense(10, activation=None if scored else "softmax")])

    return build


def subclassed(middle="GlobalMaxPooling2D", training=False):
    def build():
        import keras
        from keras import layers, ops

        class Anywhere(keras.Model):
            def __init__(self):
                super().__init__()
                self.first, self.second = layers.Conv2D(32, 3), layers.Conv2D(64, 3)
                self.pool, self.middle = layers.MaxPooling2D(2), getattr(layers, middle)()
                self.hidden, self.digit = layers.Dense(64), layers.Dense(10)

            def read(self, x):
                for convolution in (self.first, self.second):
                    x = self.pool(ops.relu(convolution(x)))
                return ops.softmax(self.digit(ops.relu(self.hidden(self.middle(x)))))

            def call(self, x):
                return self.read(x)

        class Asked(Anywhere):
            def call(self, x, training=False):
                return self.read(x)

        return Asked() if training else Anywhere()

    return build


def without_input():
    """A Sequential that is not built before it sees an image."""
    from keras import Sequential, layers

    model = Sequential()
    for count in (32, 64):
        model.add(layers.Conv2D(count, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
    for layer in (layers.GlobalMaxPooling2D(), layers.Dense(64, "relu"), layers.Dense(10, "softmax")):
        model.add(layer)
    return model


def largest_by_hand():
    """MaxPooling2D(5) and Flatten do what GlobalMaxPooling2D does."""
    from keras import Input, Sequential, layers

    model = Sequential([Input((28, 28, 1))])
    for count in (32, 64):
        model.add(layers.Conv2D(count, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
    for layer in (layers.MaxPooling2D(5), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10, "softmax")):
        model.add(layer)
    return model


class Builder:
    """Something that can be called and has no name."""

    def __call__(self):
        return network()()


class NoName:
    """Neither a network nor a name."""

    def __call__(self):
        raise ValueError("nothing to build")


def functional():
    from keras import Input, Model, layers

    inputs = Input((28, 28, 1))
    x = layers.MaxPooling2D()(layers.Conv2D(32, (3, 3), activation="relu")(inputs))
    x = layers.MaxPooling2D()(layers.ReLU()(layers.Conv2D(64, 3)(x)))
    x = layers.Dense(64, "relu")(layers.GlobalAveragePooling2D()(x))
    return Model(inputs, layers.Softmax()(layers.Dense(10)(x)))


CASES = {
    "05.slide": ({}, [
        (5, 1), [5.0, np.int64(1)], np.array([[5, 1]]), [[5, 1]], ((5, 1),), [[5], [1]], (5.0000001, 1),
    ], [
        ((1, 5), "wrong order"), ((-1, -1), "half a turn"), ((-3, 0), "rows and columns"), ((15, 3), "signs"),
        ((13, 12), "sum of the pixels"), ((5 / 9, 1 / 9), "the mean"), ((4, 1), "first number is not right"),
        ((5, 2), "one column to the right"), (5, "2 numbers"), ([[1, 5]], "wrong order"), ([[5, 1], [0, 0]], "of 4"),
        ([[5, 1], [0]], "this is a list"), ((5, float("nan")), "nan"),
    ]),
    "05.max-pool": ({}, [pool, pool_by_slices, lambda a: pool(a).tolist(), lambda a: pool(a).astype("float32")], [
        (lambda a: pool(a, np.mean), "mean of each"), (lambda a: pool(a, np.min), "smallest"),
        (lambda a: np.maximum(0, pool(a)), "start from 0"), (lambda a: pool(np.abs(a)), "largest size"),
        (lambda a: a[::2, ::2], "upper left"), (overlapping, "overlap"), (np.max, "one number"),
        (lambda a: a.reshape(-1, 2).max(axis=1), "should be (2, 3)"), (lambda a: pool(a) + 1, "numbers are not"),
        (lambda a: a.reshape(2, 2, 3, 2).max(axis=(1, 3)), "With 5 rows"), (pool_padded, "left over is dropped"),
        (pool_from_the_end, "the ones to drop"), (7, "is a function"), (lambda a: None, "returns nothing"),
        (lambda a: a[:3, :5], "should be (2, 3)"), (lambda a: [[1, 2], [3]], "no array of numbers"),
        (lambda a: "abc", "no array of numbers"), (lambda a: pool(a) * np.nan, "numbers are not"),
        (functools.partial(np.clip, 0), "your function(a"),
    ]),
    "05.shapes": ({}, [(26, 13, 11, 5, 1600), np.array([26, 13, 11, 5, 1600])], [
        ((28, 14, 14, 7, 3136), "margin of zeros"), ((25, 12, 9, 4, 1024), "not 3"), ((27, 13, 12, 6, 2304), "not 1"),
        ((26, 13, 11, 6, 2304), "round down"), ((26, 13, 11, 5.5, 1936), "round down"),
        ((26, 13, 12, 6, 2304), "that is not right is conv_2"),
        ((26, 24, 22, 20, 1), "that is not right is pool_1"), ((26, 13, 11, 5, 25), "one map"),
        ((26, 13, 11, 5, 320), "5 * 64"), ((26, 13, 11, 5, 800), "not conv_1"), ((26, 13, 11, 5, 7), "64 of 5 x 5"),
        (1600, "5 numbers"), ((26, 13, 11, 5, float("nan")), "nan"),
    ]),
    "05.parameters": ({}, [(320, 18_496, 102_464, 650), np.array([320, 18_496, 102_464, 650])], [
        ((288, 18_432, 102_400, 640), "biases out"), ((9, 9, 1600, 64), "one filter or unit"),
        ((320, 640, 102_464, 650), "for *each* of the 32"), ((320, 20_480, 102_464, 650), "belongs to the filter"),
        ((320, 18_496, 200_768, 650), "not of 7x7"), ((216_320, 18_496, 102_464, 650), "at every place"),
        ((320, 18_496, 102_464, 640), "is digit. "), ((1, 2, 3, 4), "is conv_1. Together"),
        ((18_496, 320, 102_464, 650), "wrong order"), ((330, 18_486, 102_464, 650), "is conv_1."),
        (121_930, "4 numbers"), ((320, 18_496, 102_464, float("nan")), "nan"),
    ]),
    "05.receptive-field": ({}, [10, 10.0, np.int64(10)], [
        (3, "conv_1"), (4, "pool_1"), (8, "conv_2"), (6, "step of two pixels"), (7, "step of two pixels"),
        (9, "two pixels of the image apart"), (16, "overlap"), (12, "overlap"), (36, "overlap"), (100, "area"),
        (28, "whole image"), (11, "layer to layer"),
    ]),
    "05.norm-count": ({}, [640, 640.0, 4 * (32 + 64 + 64)], [
        (320, "two each"), (160, "Each has four"), (384, "hidden is normalized"), (256, "Add all three"),
        (128, "after conv_1"), (512, "missing"), (117_760, "not each place"), (117_504, "and hidden counts"),
        (28_288, "not each place"), (12, "every map or unit"), (122_570, "whole network"), (7, "four numbers for each"),
    ]),
    "05.moving": ({}, [688, 688.0, np.ceil(np.log(1 / 1000) / np.log(0.99))], [
        (687, "still a little above"), (689, "one batch less"), (459, "a hundredth"), (458, "about a hundredth"),
        (100, "what is *left*"), (99, "what is *left*"), (1000, "one thousandth at a time"), (66, "momentum of 0.9"),
        (69, "a half is left"), (687.3, "batches come whole"), (230, "a tenth"), (300, "logarithms"),
        (5, "to the power of n"),
    ]),
    "05.anywhere": ({}, [
        network(), network("GlobalAveragePooling2D"), functional, rewritten(), rewritten("ops"), rewritten("own"),
        rewritten("ops", "GlobalAveragePooling2D"), subclassed(), subclassed(training=True), without_input,
        largest_by_hand, Builder(), functools.partial(network()),
    ], [
        (network("Flatten"), "behind `Flatten`"), (rows_only, "still knows the place"), (dense, "two convolutions"),
        (network(filters=(16, 64)), "32 and 64 filters"), (network(outputs="linear"), "not probabilities"),
        (network(last=9), "each of ten digits"), (network(side=32), "this model wants"),
        (network(padding="same"), "no padding"), (network(pool=False), "keep the pooling"),
        (network(activation="linear"), "keep the ReLU"), (rewritten("tanh"), "keep the ReLU"),
        (rewritten(middle="Flatten"), "behind `Flatten`"), (rewritten(scored=True), "not probabilities"),
        (network(units=32), "parameters"), (network(scale=0), "too much of a good thing"),
        (network()(), "pass the function"), (subclassed()(), "pass the function"), (NoName(), "nothing to build"),
        (network, "returns a function"), (lambda: network, "returns a function"),
        (lambda: [network()()], "returns a list"), (lambda: 5, "returns an int"), (5, "is a function"),
        (lambda: None, "returns nothing"),
    ]),
}  # fmt: skip
