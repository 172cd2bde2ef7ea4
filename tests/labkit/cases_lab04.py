"""Lab 04's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import math

import numpy as np

from labkit.data import Dataset


def blobs(n, rng):
    """Images that a small network learns in no time: (n, 784) float32, and labels (n,)."""
    labels = rng.integers(0, 10, n)
    return (rng.normal(0, 0.1, (n, 784)) + 3 * np.eye(10, 784)[labels]).astype("float32"), labels


_rng = np.random.default_rng(1)
DATA = Dataset(*blobs(2_000, _rng), *blobs(2_500, _rng), *blobs(10, _rng), name="blobs", source="made here")


def network(hidden=3, activation="relu", optimizer="adam", loss="sparse_categorical_crossentropy", outputs=10):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((784,)), *(layers.Dense(32, activation) for _ in range(hidden))])
    model.add(layers.Dense(outputs, "softmax"))
    if optimizer:
        model.compile(optimizer, loss)
    return model


def stack(*hidden, last=None, loss="sparse_categorical_crossentropy", optimizer="adam"):
    """hidden: what stands between the images and the ten outputs."""
    import keras

    model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10, last)])
    model.compile(optimizer, loss)
    return model


def dense(*activations):
    from keras import layers

    return [layers.Dense(32, activation) for activation in activations]


def logits():
    return stack(*dense("relu", "relu", "relu"), loss=logits_loss())


def two_linear():
    return stack(*dense("relu", None, None), last="softmax")


def one_linear_of_four():
    return stack(*dense("relu", None, "relu", "relu"), last="softmax")


def normalized():
    from keras import layers

    first, second, third = dense(None, None, None)
    return stack(
        first, layers.BatchNormalization(), layers.Activation("sigmoid"), second, layers.LayerNormalization(),
        layers.LeakyReLU(), layers.Dropout(0.1), third, layers.BatchNormalization(), layers.ReLU(), last="softmax",
    )  # fmt: skip


def linear_in_disguise():
    from keras import layers

    first, second, third = dense("relu", None, None)
    return stack(first, second, layers.BatchNormalization(), third, layers.Dropout(0.1), last="softmax")


def residual():
    import keras
    from keras import layers

    x = inputs = keras.Input((784,))
    for i in range(4):
        y = layers.Dense(24, "sigmoid")(x)
        x = layers.add([x, y]) if i else y
    model = keras.Model(inputs, layers.Dense(10, "softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def nested():
    import keras

    return stack(keras.Sequential(dense("relu", "relu", "relu")), last="softmax")


def subclassed(activation="relu"):
    import keras

    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = [keras.layers.Dense(32, activation) for _ in range(3)]
            self.digit = keras.layers.Dense(10, "softmax")

        def call(self, x):
            for layer in self.hidden:
                x = layer(x)
            return self.digit(x)

    model = Mine()
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def not_built():
    import keras

    model = keras.Sequential([*dense("relu", "relu", "relu"), keras.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def trained_already():
    model = network()
    model.fit(DATA.x_train[:64], DATA.y_train[:64], verbose=0)
    model.predict(DATA.x_train[:64], verbose=0)
    return model


_shared = []


def shared_layers():
    import keras

    _shared.extend([] if _shared else [*dense("relu", "relu", "relu"), keras.layers.Dense(10, "softmax")])
    model = keras.Sequential([keras.Input((784,)), *_shared])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def two_outputs():
    import keras

    inputs = keras.Input((784,))
    x = keras.layers.Dense(10)(inputs)
    return keras.Model(inputs, [x, x])


def images():
    import keras

    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), *dense("relu", "relu", "relu")])
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def exploding():
    import keras

    return stack(*dense("relu", "relu", "relu"), optimizer=keras.optimizers.SGD(1e18), loss=logits_loss())


def logits_loss():
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


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


sigmoid_of_two = 1 / (1 + math.exp(-2))
slope_at_two = sigmoid_of_two * (1 - sigmoid_of_two)

CASES = {
    "04.parameters": ({}, [(8065, 63465, 177715), np.array([8065.0, 63465.0, 177715.0])], [
        ((177715, 63465, 8065), "wrong order"), ((7956, 62916, 176616), "counted the weights"),
        ((7965, 62965, 176715), "output layer is missing"), ((8155, 65915, 187615), "784 inputs"),
        ((7975, 61015, 167815), "not nine"), ((8065, 63465, 177716), "for 99 units"), ((1, 2, 3), "for 9 units"),
        (8065, "3 numbers"),
    ]),
    "04.constant-class": ({"answers": np.array([7] * 19 + [4])}, [7, np.int64(7)], [
        (1, "a good guess"), (3, "never answers 3"), (0.7, "a digit"), (11, "a digit"), (-1, "a digit"),
        ("7", "text"), (4, "another digit more often"),
    ]),
    "04.entropy": ({}, [1.5 * math.log(2), 1.0397, 1.04, np.float64(0.5 * math.log(2) + 0.5 * math.log(4))], [
        (math.log(3), "three equal shares"), (1.0986, "three equal shares"),
        (1.5, "in bits"), (-1.5 * math.log(2), "minus sign"),
        (math.log(2), "cats alone"), (0.5, "accuracy"), (1.5 * math.log10(2), "base 10"), (5 * math.log(2), "weigh"),
        (7, "add up share"),
    ]),
    "04.constant-loss": ({}, [entropy, lambda labels: float(np.log(len(labels)) - sum(
        c * np.log(c) for c in np.unique(labels, return_counts=True)[1]) / len(labels))], [
        (entropy_with_nan, "never occur"), (lambda labels: -entropy(labels), "wrong way round"),
        (lambda labels: entropy(labels) / math.log(2), "in bits"),
        (lambda labels: math.log(len(set(labels))), "equal shares"),
        (lambda labels: math.log(10), "whatever the labels"),
        (lambda labels: np.bincount(labels).max() / len(labels), "accuracy"),
        (lambda labels: -math.log(np.bincount(labels).max() / len(labels)), "most common label alone"),
        (lambda labels: entropy(labels) / math.log(10), "base 10"),
        (lambda labels: 2.0, "so it is"),
        # right for the first labels only: what differs is named, and what is right is not
        (lambda labels: entropy(labels) if len(labels) == 4 else 2.0, "[0, 1, 0, 1, 0, 1, 0, 1] it gives 2;"),
        (lambda labels: entropy(labels) + 2e-3 * (len(labels) == 30), "it is 2.303"),
        (lambda labels: math.inf, "gives inf"), (lambda labels: None, "returns nothing"), (2.3, "is a function"),
    ]),
    "04.layers": ({}, [5, 5.0], [
        (4, "1/256"), (6, "one layer earlier"), (10, "one half"), (250, "multiply"), (3, "tenth"),
        (4.983, "whole"), (7, "at which power"),
    ]),
    "04.gain": ({}, [1 / slope_at_two, 9.52, 9.5, 9.524, np.float32(9.524391)], [
        (4, "close to 0"), (0.105, "undoes it"), (90.7, "variance"), (3.09, "no root"), (1.135, "value of the sigmoid"),
        (8.39, "only a part"), (0.88, "value of the sigmoid"), (14.15, "tanh"), (1, "alone"), (3, "product"),
        (9, "product"),
    ]),
    "04.relu": ({}, [1.6, 8 / 5, np.float32(1.6)], [
        (2, "keeps a bit"), (0.625, "wrong way round"), (1.33, "averaged"), (1.78, "square of the mean"),
        (16 / 9, "square of the mean"), (1.265, "Variance goes"), (math.sqrt(1.6), "Variance goes"), (1, "halves half"),
        (4, "everywhere"), (0.8, "half of the units only"), (3, "mean of z squared"),
    ]),
    "04.deep-network": ({"data": DATA}, [
        network, functional, lambda: network(5, "elu", "rmsprop"), logits, normalized, residual, nested, subclassed,
        not_built, one_linear_of_four, trained_already,
    ], [
        (7, "is a function"), (lambda: 7, "not a Keras model"), (the_same_again, "the same network"),
        (lambda: network(outputs=1), "outputs have shape (n, 1)"), (lambda: network(hidden=2), "2 hidden Dense layers"),
        (lambda: network(hidden=1), "1 hidden Dense layer;"), (lambda: network(optimizer=None), "not been compiled"),
        (lambda: network(3, "linear"), "without activations"), (lambda: subclassed(None), "without activations"),
        (two_linear, "only 1 has an activation"), (linear_in_disguise, "only 1 has an activation"),
        (lambda: network(loss="categorical_crossentropy"), "whole numbers"),
        (lambda: network(11, "sigmoid", "sgd"), "answers all images alike"),
        (lambda: network(3, "tanh", "adagrad"), "get over 92%"), (lambda: None, "returns nothing"),
        (shared_layers, "share their layers"), (two_outputs, "not one output"), (images, "images of shape (n, 784)"),
        (exploding, "NaN"), (lambda: (network(), None), "returns a tuple"),
    ]),
}  # fmt: skip
