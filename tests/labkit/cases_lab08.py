"""Lab 08's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import dataclasses
import os
from unittest import mock

import numpy as np
from scipy import ndimage

from labkit.data import load_mnist

with mock.patch.dict(os.environ, LABKIT_DATA="digits"):  # the same on every machine, and there without a network
    DATA = load_mnist(n_train=5_000, n_valid=1_000, flatten=True, scale=False)


def made(kind, what):
    """An object of keras.<kind> from a text, a number or (name, arguments by name); None stays None."""
    import keras

    if not isinstance(what, tuple):
        return what
    name, options = what
    return getattr(getattr(keras, kind), name)(**options)


def network(hidden, *, activation="relu", scale=1 / 255, norm=None, drop=0, init=None, bias="zeros", head="softmax",
            last_bias="zeros", behind=(), optimizer="adam", rate=None, decay=None, logits=False, offset=0.0,
            loss=None, data=None, compiled=True, trained=False, **more):  # fmt: skip
    """A function that takes a Dataset and returns a model of this kind and the data, as a repair does.

    norm: "before" or "after" the activation, or "input". behind: layers after the last. decay: (schedule, options).
    loss: one of one-hot labels, which then replace the others for training and validation.
    data: function Dataset -> Dataset. trained: whether the function trains, too. more: arguments of the optimizer.
    """

    def repaired(given):
        import keras
        from keras import layers

        model = keras.Sequential([keras.Input((784,))])
        if scale:
            model.add(layers.Rescaling(scale, offset=offset))
        if norm == "input":
            model.add(layers.BatchNormalization())
        for units in hidden:
            kernel = made("initializers", init) or "glorot_uniform"
            model.add(layers.Dense(units, kernel_initializer=kernel, bias_initializer=made("initializers", bias)))
            if norm == "before":
                model.add(layers.BatchNormalization())
            model.add(active(activation))
            if norm == "after":
                model.add(layers.BatchNormalization())
            if drop:
                model.add(layers.Dropout(drop))
        model.add(layers.Dense(10, bias_initializer=made("initializers", last_bias)))
        model.add(active(head))
        for layer in behind:
            model.add(made("layers", layer))
        if decay:
            arguments = {"learning_rate": schedule(decay)}
        else:
            arguments = {} if rate is None else {"learning_rate": rate}
        if compiled:
            criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
            model.compile(
                made("optimizers", (named(optimizer), arguments | more)), loss or criterion, metrics=["accuracy"]
            )
        given = data(given) if data else given
        if loss:
            hot = {part: np.eye(10, dtype="float32")[getattr(given, part)] for part in ("y_train", "y_valid")}
            given = dataclasses.replace(given, **hot)
        if trained:
            model.fit(given.x_train, given.y_train, epochs=1, verbose=0)
        return model, given

    return repaired


def active(activation):
    from keras import layers

    if isinstance(activation, str) and activation.startswith("leaky"):
        return layers.LeakyReLU(float(activation.removeprefix("leaky") or 0.3))
    return layers.Activation(activation)


def named(optimizer):
    return {"adam": "Adam", "sgd": "SGD", "rmsprop": "RMSprop"}[optimizer]


def schedule(decay):
    import keras

    name, options = decay
    return getattr(keras.optimizers.schedules, name)(**options)


def scaled(factor, parts=("train", "valid", "test"), shift=0.0):
    def change(data):
        return dataclasses.replace(
            data,
            **{f"x_{part}": (getattr(data, f"x_{part}") - np.float32(shift)) * np.float32(factor) for part in parts},
        )

    return change


def repeated(data):
    """Four times the epochs, in the guise of more images."""
    return dataclasses.replace(data, x_train=np.tile(data.x_train, (4, 1)), y_train=np.tile(data.y_train, 4))


def ordered(x_order, y_order):
    """Training images and labels, each in the order of a generator with this seed; None leaves them."""

    def change(data):
        n = len(data.x_train)
        x, y = (slice(None) if s is None else np.random.default_rng(s).permutation(n) for s in (x_order, y_order))
        return dataclasses.replace(data, x_train=data.x_train[x], y_train=data.y_train[y])

    return change


def by_label(data):
    """Labels sorted, and the images left as they were."""
    return dataclasses.replace(data, y_train=np.sort(data.y_train))


def block(mode, *, keep="BatchNormalization", momentum=0.9, drop=0):
    """Patient 6 with this in place of training=True: a dict of arguments of the normalization's call."""

    def repaired(data):
        import keras
        from keras import layers

        class Block(layers.Layer):
            def __init__(self, units, **options):
                super().__init__(**options)
                self.dense = layers.Dense(units)
                self.norm = getattr(layers, keep)(**({"momentum": momentum} if keep.startswith("Batch") else {}))

            def call(self, x):
                return keras.ops.relu(self.norm(self.dense(x), **mode))

        model = keras.Sequential([keras.Input((784,)), layers.Rescaling(1 / 255)])
        for _ in range(2):
            model.add(Block(64))
            if drop:
                model.add(layers.Dropout(drop))
        model.add(layers.Dense(10, activation="softmax"))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model, data

    return repaired


def copied(x, y, times, seed, noise=20):
    rng = np.random.default_rng(seed)
    copies = np.clip(x + rng.normal(0, noise, (times, *x.shape)), 0, 255).astype("float32")
    return copies.reshape(-1, x.shape[1]), np.tile(y, times)


def shifted(x, y, times, by=1):
    """Copies of images, each moved by a pixel or more in another direction, the first not at all."""
    moves = [(0, 0), (0, by), (0, -by), (by, 0), (-by, 0)][:times]
    images = x.reshape(-1, 28, 28).astype("float32")
    copies = [ndimage.shift(images, (0, *move), order=0) for move in moves]
    return np.concatenate(copies).reshape(-1, 784), np.tile(y, times)


def turned(x, y, times):
    """Copies of images, each turned by another angle."""
    images = x.reshape(-1, 28, 28).astype("float32")
    copies = [ndimage.rotate(images, angle, (2, 1), reshape=False, order=1) for angle in (0, 6, -6, 12, -12)[:times]]
    return np.concatenate(copies).reshape(-1, 784), np.tile(y, times)


def leaking(order="shuffled", times=5, noise=20, copy=None):
    """Copies first, split later."""

    def change(data):
        owned = data.x_train[:1000], data.y_train[:1000]
        x, y = copy(*owned, times) if copy else copied(*owned, times, 1, noise)
        chosen = np.random.default_rng(2).permutation(len(x)) if order == "shuffled" else np.arange(len(x))
        cut = len(x) * 4 // 5
        return dataclasses.replace(
            data, x_train=x[chosen[:cut]], y_train=y[chosen[:cut]], x_valid=x[chosen[cut:]], y_valid=y[chosen[cut:]]
        )

    return change


def honest(*, times=5, n_train=800, seed=None, valid=None, divide=1.0, copy=None, both=False):
    """Split first, copy later.

    valid: the part of the data to validate on instead, or "seen". copy: how, if not by noise. both: copies to validate.
    """

    def change(data):
        order = np.arange(1000) if seed is None else np.random.default_rng(seed).permutation(1000)
        x, y = data.x_train[order], data.y_train[order]
        some = (x[:n_train].astype("float32"), y[:n_train])
        x_train, y_train = some
        if times:
            x_train, y_train = copy(*some, times) if copy else copied(*some, times, 1)
        x_valid, y_valid = x[n_train:], y[n_train:]
        if both:
            x_valid, y_valid = copied(x_valid, y_valid, times, 2)
        if valid == "seen":
            x_valid, y_valid = some
        elif valid:
            x_valid, y_valid = getattr(data, f"x_{valid}"), getattr(data, f"y_{valid}")
        return dataclasses.replace(
            data, x_train=x_train / divide, y_train=y_train, x_valid=x_valid / divide, y_valid=y_valid,
            x_test=data.x_test / divide,
        )  # fmt: skip

    return change


def grouped(data):
    """Noisy copies of all images, then a split by image, in an order that no seed decides."""
    x, y = copied(data.x_train[:1000], data.y_train[:1000], 4, 1)
    image = np.tile(np.arange(1000), 4)
    kept = np.random.default_rng().permutation(1000)[:800]
    inside = np.isin(image, kept)
    return dataclasses.replace(data, x_train=x[inside], y_train=y[inside], x_valid=x[~inside], y_valid=y[~inside])


def deaf(change):
    """A change of the clinic's own data, whatever the function is given."""
    return lambda data: change(DATA)


def on_validation(data):
    """Trains on the images and labels of validation, five times over."""
    n = len(data.x_valid)
    times = len(data.x_train) // n
    return dataclasses.replace(data, x_train=np.tile(data.x_valid, (times, 1)), y_train=np.tile(data.y_valid, times))


def normalized(by_pixel):
    """All images shifted and scaled by mean and spread of the training images, of each pixel or of all."""

    def change(data):
        x = data.x_train.astype("float32")
        mean, spread = (x.mean(axis=0), x.std(axis=0) + 1) if by_pixel else (x.mean(), x.std())
        return dataclasses.replace(
            data, **{f"x_{part}": (getattr(data, f"x_{part}") - mean) / spread for part in ("train", "valid", "test")}
        )

    return change


def subclassed(data):
    """The healthy network as a class of its own, with another of these inside."""
    import keras
    from keras import layers

    class Inner(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = [layers.Dense(64, activation="relu") for _ in range(2)]

        def call(self, x):
            for layer in self.hidden:
                x = layer(x)
            return x

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.last = Inner(), layers.Dense(10)

        def call(self, x):
            return self.last(self.inner(x / 255))

    model = Outer()
    model.compile(
        "adam",
        lambda y, z: keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True),
        metrics=["accuracy"],
    )
    return model, data


def of_this_shape(*shape):
    """A repair whose network gives numbers of this shape for each image."""

    def repaired(data):
        import keras
        from keras import layers

        model = keras.Sequential(
            [keras.Input((784,)), layers.Dense(64), layers.Dense(64), layers.Dense(int(np.prod(shape)))]
        )
        model.add(layers.Reshape(shape))
        model.compile("sgd", "mse")
        return model, data

    return repaired


TWO, SIX, EIGHT = [64, 64], [64] * 6, [64] * 8
MEAN = ("RandomNormal", {"mean": 0.15})
RARE = ("Constant", {"value": -4.6})
STEPS = ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 1, "decay_rate": 0.8})


def decay(name="ExponentialDecay", **changed):
    return name, STEPS[1] | changed


def patient_1(**change):
    return network([12, 12], **({"activation": "tanh", "scale": None, "rate": 0.003} | change))


def patient_2(**change):
    return network([64], **({"behind": [("Softmax", {})]} | change))


def patient_3(**change):
    return network(SIX, **({"optimizer": "sgd", "rate": 0.1, "init": MEAN} | change))


def patient_4(x_order, y_order, **change):
    return network(TWO, data=ordered(x_order, y_order), **change)


def patient_5(**change):
    return network(EIGHT, **({"optimizer": "sgd", "rate": 0.1, "init": "random_normal"} | change))


def patient_7(**change):
    return network(TWO, **({"optimizer": "sgd", "decay": STEPS} | change))


def patient_8(**change):
    return network([64, 32], **({"head": "relu"} | change))


def patient_9(data, **change):
    return network([128], data=data, **change)


def patient_10(**change):
    return network(TWO, **({"bias": RARE, "last_bias": RARE} | change))


def patient_11(**change):
    twice = {"scale": 1 / 255**2, "behind": [("Softmax", {})], "optimizer": "sgd", "rate": 0.1}
    return network(TWO, **(twice | change))


def rows(**wrong):
    """The table with all causes right but these: p3="A" puts the letter A into the row of patient 3."""
    letters = dict(zip(range(1, 11), "DECGAIJFHB", strict=True))
    return {n: ("what I saw", "what I did", wrong.get(f"p{n}", letter)) for n, letter in letters.items()}


FACTS = {"data": DATA}
CASES = {
    "08.patient-1": (FACTS, [
        patient_1(data=scaled(1 / 255)), patient_1(scale=1 / 127.5, offset=-1), patient_1(norm="input"),
        patient_1(data=normalized(by_pixel=True)), patient_1(data=normalized(by_pixel=False)),
        patient_1(norm="before"),
    ], [
        (patient_1(rate=0.02), "still saturated"), (patient_1(activation="relu"), "no recovery|eased"),
        (patient_1(init="he_normal"), "still saturated"), (patient_1(norm="after"), "no recovery|eased"),
        (patient_1(data=scaled(1 / 255, ("train",))), "to all three"),
        (patient_1(data=scaled(1 / 255, ("train", "valid"))), "to all three"),
        (network([64, 64], activation="tanh"), "Treat this network"), (network([12]), "12 units"),
        (patient_1(data=repeated), "20,000 images an epoch"), (patient_1(compiled=False), "not compiled"),
        (patient_1(data=scaled(1 / 255), trained=True), "has been trained already, for 157 steps"),
        (lambda data: network([12, 12])(data)[0], "returns two things"), (lambda data: (data, data), "first comes"),
        (lambda data: (network([12, 12])(data)[0], data.x_train), "second comes"), (lambda data: None, "nothing"),
        (lambda data: (network([12, 12])(data)[0], dataclasses.replace(data, y_train=None)), "y_train is no array"),
        (7, "is a function"),
    ]),
    "08.patient-2": (FACTS, [
        patient_2(behind=()), patient_2(head=None, behind=(), logits=True), patient_2(head=None),
        patient_2(behind=(), loss="categorical_crossentropy"), patient_2(behind=[("Rescaling", {"scale": 20}),
        ("Softmax", {})]), patient_2(behind=(), logits=True),
    ], [
        (patient_2(head=None, behind=()), "reads only"), (patient_2(rate=0.01), "what holds it back"),
        (patient_2(head="sigmoid"), "what holds it back"), (patient_2(logits=True), "what holds it back"),
        (patient_2(head="sigmoid", behind=()), "no probabilities|still there"),
        (network([256], behind=[("Softmax", {})]), "64 hidden units"),
    ]),
    "08.patient-3": (FACTS, [
        patient_3(init="he_normal"), patient_3(init="glorot_uniform"),
        patient_3(init=("RandomNormal", {"stddev": 0.15})),
    ], [
        (patient_3(rate=0.001), "still grows"), (patient_3(clipnorm=1.0), "still grows"),
        (patient_3(optimizer="adam", rate=0.001), "still grows|still there"),
        (patient_3(init=("RandomNormal", {"mean": 0.03})), "no recovery|eased"),
        (patient_3(init=("RandomNormal", {"mean": -0.15})), "no recovery"),
        (patient_3(init="random_normal"), "shrinks"), (network([64] * 2, optimizer="sgd", rate=0.1), "6 hidden layers"),
    ]),
    "08.patient-4": (FACTS, [patient_4(5, 5), network(TWO), network(TWO, data=on_validation), subclassed], [
        (patient_4(1, 2), "its label right"), (patient_4(1, None), "The labels are as the clinic gave them"),
        (network(TWO, data=by_label), "in their own order"), (patient_4(1, 2, drop=0.2), "no recovery|eased"),
        (network([512, 512], data=ordered(1, 2)), "2 hidden layers of 64"),
        (of_this_shape(5, 2), "the shape (2, 5, 2)"),
    ]),
    "08.patient-5": (FACTS, [
        patient_5(init="he_normal"), patient_5(init="orthogonal"), patient_5(norm="before"),
        patient_5(init=("RandomNormal", {"stddev": (2 / 64) ** 0.5})),
    ], [
        (patient_5(optimizer="adam", rate=0.001), "tiny part|th part of"),
        (patient_5(activation="sigmoid"), "tiny part"), (patient_5(momentum=0.9), "no recovery"),
        (patient_5(init=("RandomNormal", {"stddev": 1.0})), "not a number|too far"),
        (network([256] * 8, init="he_normal"), "8 hidden layers of 64"),
    ]),
    "08.patient-6": (FACTS, [
        block({}), block({}, keep="LayerNormalization"), network(TWO, norm="before"), network(TWO, norm="input"),
    ], [
        (block({"training": True}, momentum=0.99), "one at a time"), (block({"training": True}, drop=0.2), "others"),
        (network(TWO), "amputated"), (block({"training": False}), "as if there were no"),
        (patient_10(), "worse than the patient"),
    ]),
    "08.patient-7": (FACTS, [
        patient_7(decay=None, rate=0.1), patient_7(decay=decay(decay_steps=40)),
        patient_7(decay=decay(decay_steps=39, staircase=True)), patient_7(decay=decay(decay_rate=0.8 ** (1 / 40))),
        patient_7(decay=("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 320})),
        patient_7(decay=("PiecewiseConstantDecay", {"boundaries": [40, 80], "values": [0.1, 0.08, 0.064]})),
    ], [
        (patient_7(decay=decay(decay_steps=5000)), "99.8 % of the learning rate"),
        (patient_7(decay=decay(decay_steps=128)), "93.3 % of the learning rate"),
        (patient_7(decay=decay(decay_steps=128, staircase=True)), "still there"),
        (patient_7(decay=decay(decay_steps=5000, staircase=True)), "100 % of the learning rate"),
        (patient_7(decay=decay(decay_rate=0.99)), "66.9 % of the learning rate"),
        (patient_7(decay=decay(decay_steps=8)), "eased|no recovery|of the learning rate"),
        (patient_7(decay=None, rate=1e-4), "no recovery"), (patient_7(init="he_normal"), "stands still"),
        (network([128, 128], optimizer="sgd", rate=0.1), "of 64 units"),
    ]),
    "08.patient-8": (FACTS, [
        patient_8(head="softmax"), patient_8(head=None, logits=True), patient_8(head="log_softmax", logits=True),
        patient_8(head="sigmoid", loss="binary_crossentropy"),
    ], [
        (patient_8(head="sigmoid"), "sum to"), (patient_8(head="softplus"), "sum to"),
        (patient_8(logits=True), "exactly 0|of 100"), (patient_8(head=None), "of 100"),
        (patient_8(head="leaky"), "of 100"), (patient_8(activation="softmax", head="softmax"), "of 100"),
        (patient_8(rate=1e-4), "not what this network|no recovery"),
        (patient_8(optimizer="sgd", rate=0.1), "never answers|exactly 0"), (network([64, 64]), "64 and 32 units"),
    ]),
    "08.patient-9": (FACTS, [
        patient_9(honest()), patient_9(honest(times=0)), patient_9(honest(seed=3, n_train=700)),
        patient_9(honest(both=True)), patient_9(grouped), patient_9(honest(copy=shifted)),
        patient_9(honest(copy=turned)), patient_9(honest(copy=turned, divide=255), scale=None),
        patient_9(deaf(honest())),
    ], [
        (patient_9(leaking(), drop=0.5), "have another copy"),
        (patient_9(leaking("in order")), "100 have another copy"),
        (patient_9(leaking(copy=shifted)), "have another copy"), (patient_9(leaking(copy=turned)), "another copy"),
        (patient_9(honest(valid="seen")), "100 have another copy"),
        (patient_9(honest(valid="test")), "the clinic's"), (patient_9(deaf(honest(valid="test"))), "the clinic's"),
        (patient_9(honest(valid="valid")), "and no others"), (patient_9(honest(n_train=950)), "luck decides"),
        (patient_9(leaking(times=7)), "images an epoch"), (patient_9(lambda data: data), "and no others|use them"),
    ]),
    "08.patient-10": (FACTS, [
        patient_10(bias="zeros", last_bias="zeros"), patient_10(bias="zeros"), patient_10(norm="before"),
        patient_10(bias=("Constant", {"value": 0.1})),
    ], [
        (patient_10(activation="tanh"), "still there"), (patient_10(activation="elu"), "still there"),
        (patient_10(activation="leaky"), "still there"), (patient_10(activation="leaky0.01"), "still there|of 100"),
        (patient_10(init="he_normal"), "hidden layer"), (patient_10(last_bias="zeros"), "hidden layer 1"),
        (patient_10(norm="after"), "the same for every image"), (network([256, 256]), "Treat this network"),
        (patient_10(bias=("Constant", {"value": -0.46})), "units of hidden layer 2"),
    ]),
    "08.patient-11": (FACTS, [
        patient_11(scale=1 / 255, behind=(), head=None, logits=True), patient_11(scale=1 / 255, behind=()),
        patient_11(scale=None, behind=(), data=scaled(1 / 78, shift=33)),
    ], [
        (patient_11(scale=1 / 255), "it learns now"), (patient_11(behind=()), "next to no spread"),
        (patient_11(optimizer="adam", rate=0.003, behind=()), "spread is|next to no spread|eased"),
        (patient_11(norm="before"), "it learns now"), (network([64]), "2 hidden layers"),
    ]),
    "08.causes": ({}, [rows(), {n: list(row) for n, row in rows().items()}, rows(p3="c: it explodes")], [
        (rows(p3="A"), "its spread does not shrink"), (rows(p10="A", p5="B"), "8 of 10"),
        (rows(p2="F", p8="E"), "the loss has a floor"), (rows(p1="E"), "E comes up more than once"),
        (rows(p1="B", p10="D"), "its units are no ReLUs"), ({1: ("a", "b", "D")}, "no row yet"),
        (rows(p4="K"), "A to J"), (rows() | {6: ("", "b", "I")}, "lacks words"),
        (rows() | {6: ("a", "b")}, "separated by commas"), ("D", "dict"),
        ({n: row[2] for n, row in rows().items()}, "patient 1 lacks words"),
        ({n: (row[2],) for n, row in rows().items()}, "patient 1 lacks words"),
        (rows() | {4: ("the symptom", "the test that settles it", "G")}, "patient 4 lacks words"),
    ]),
    "08.floor": ({}, [
        lambda n: np.log(np.e + n - 1) - 1, lambda n: -np.log(np.e / (np.e + n - 1)),
        lambda n: round(float(np.log(np.e + n - 1) - 1), 3),
    ], [
        (np.log, "knows nothing"), (lambda n: 1 - np.log(np.e + n - 1), "sign"),
        (lambda n: np.e / (np.e + n - 1), "probability"), (lambda n: 1.461, "ten classes"),
        (lambda n: np.log(np.e + n) - 1, "one fewer"), (lambda n: 0, "a loss of 0"), (lambda n: n, "it gives 2"),
        (lambda n: (np.log(np.e + n - 1) - 1) / np.log(2), "bits"), (1.461, "is a function"),
        (lambda n: np.log(np.e + n - 1) - 1 + (n == 1000), "with 1000 classes the floor is 5.909; it gives 6.909"),
    ]),
}  # fmt: skip
