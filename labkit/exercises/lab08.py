"""Exercises of lab 08: networks that do not train as they should, to be repaired and named.

A repair is judged by what the network does: it is trained as the lab trains its patients, and asked for fresh images.
One seed is not enough to reject it. And a network that trains again is examined for the sign of its patient's cause,
since much that eases a symptom leaves the cause where it was.
The thresholds lie between the sick and the repaired runs of the study 08.clinic, which the lab shows.
"""

import copy
import dataclasses
import functools
import math
import warnings
from types import SimpleNamespace

import numpy as np

from labkit.exercises.core import (
    NotAnswered,
    Right,
    Wrong,
    WrongAnswer,
    apart,
    call,
    exercise,
    first_difference,
    number,
    prediction,
)

EPOCHS, BATCH = 8, 128  # the lab's
SEEDS = 1, 2, 3  # the lab's, and two more for a repair that falls below the line
LOOK = 500  # images on which a network is examined
ALONE = 100  # images that are answered one at a time
OWNED = 1000  # images that patient 9's owner has: the first ones
# What a repaired network has to reach on fresh images, by patient: accuracy; but of patients 2 and 11 the probability
# given to the right digit (geometric mean), of 6 the accuracy one image at a time, and of 9 at most this gap between
# validation and fresh accuracy. In the study, every sick run is on one side and every repaired run on the other.
THRESHOLDS = {1: 0.8, 2: 0.4, 3: 0.5, 4: 0.75, 5: 0.8, 6: 0.6, 7: 0.83, 8: 0.8, 9: 0.08, 10: 0.75, 11: 0.4}
PARTS = ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test")

prediction("08.alone", "which share of them does it read rightly, from 0 to 1?", low=0, high=1)
prediction("08.fresh", "which accuracy on fresh images, from 0 to 1?", low=0, high=1)
prediction("08.memorized", "which training accuracy, from 0 to 1?", low=0, high=1)


def tried(answer, data, hidden, recovered, images=None):
    """Train a repaired network with one seed, and with a second and a third where the first says that it is none.

    recovered: function of a run -> whether it is above the line. The others are as `treated` takes them.
    Returns whether the network has recovered (with the first seed, or with the two others), and the runs that say so.
    """
    runs, good = [], []
    for seed in SEEDS:
        runs.append(treated(answer, data, hidden, seed, images))
        good.append(bool(recovered(runs[-1])))
        if good[0] or good.count(False) > 1:
            break
    verdict = good[0] or good.count(True) > 1
    return verdict, [run for run, fine in zip(runs, good, strict=True) if fine == verdict]


def treated(answer, data, hidden, seed, images=None):
    """Train the network of a repaired function as the lab does, after refusing what is no repair.

    answer, data, hidden, seed, images: see `prepared`.
    Returns model and data; of the fresh images `outputs` (n, 10) as they are, and their `kind`, by which they become
    probabilities; `loss`, their cross-entropy, whatever it was trained with; `accuracy`; `losses`, of the training
    epochs; `trained`, the accuracy of the last of them.
    """
    model, own = prepared(answer, data, hidden, seed, images)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras, where a loss and an output do not go together: judged below
            if model.steps_per_execution == 1:
                model.steps_per_execution = 64
            history = model.fit(own.x_train, own.y_train, batch_size=BATCH, epochs=EPOCHS, verbose=0).history
            outputs = np.asarray(model(_batch(own.x_test), training=False), dtype="float64")
            kind = _kind(model, own, outputs)
    except MemoryError:
        raise
    except Exception as error:
        raise WrongAnswer(f"training it stopped with {type(error).__name__}: {_reason(error)}.") from None
    labels, wrong = _labels(own.y_test), np.isnan(outputs).any(axis=1)
    answers = outputs
    if kind == "logits":
        answers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    elif kind == "log probabilities":
        answers = np.exp(outputs)
    given = answers[np.arange(len(answers)), labels]  # to the right digit
    if (answers >= 0).all():  # no softmax: Keras's losses make them sum to 1, too
        given = given / np.maximum(answers.sum(axis=1), 1e-7)
    return SimpleNamespace(
        model=model,
        data=own,
        outputs=outputs,
        kind=kind,
        labels=labels,
        loss=float(-np.log(np.clip(given, 1e-7, 1)).mean()),
        accuracy=float(((outputs.argmax(axis=1) == labels) & ~wrong).mean()),
        losses=history["loss"],
        trained=history.get("accuracy", [math.nan])[-1],
    )


def prepared(answer, data, hidden, seed, images=None):
    """Call a repaired function, and refuse what is no repair.

    answer: function (Dataset) -> (compiled model, Dataset). hidden: units of each hidden layer, which are to stay.
    images: how many training images there may be; None for as many as in `data`.
    Returns the model, not trained, and the data.
    """
    import keras

    keras.utils.set_random_seed(seed)
    model, own = _pair(call(answer, copy.deepcopy(data)))
    _refuse_other_data(own, data, len(data.x_train) if images is None else images)
    if steps := int(np.asarray(model.optimizer.iterations)):
        raise WrongAnswer(
            f"this network has been trained already, for {steps} steps. Make a new one in each call of the function, "
            "and leave the training to the clinic, which trains all alike."
        )
    _refuse_other_networks(model, own, hidden)
    return model, own


def _pair(result):
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise WrongAnswer("the function returns two things, as the patient does: `return model, data`.")
    model, own = result
    if not hasattr(model, "fit") or not hasattr(model, "layers"):
        raise WrongAnswer(f"first comes the model; this is a {type(model).__name__}.")
    if not all(hasattr(own, part) for part in PARTS):
        raise WrongAnswer("second comes the data, with x_train, y_train, x_valid and so on; dataclasses.replace helps.")
    if not getattr(model, "compiled", False) or getattr(model, "optimizer", None) is None:
        raise WrongAnswer("the model is not compiled. The patient's is.")
    arrays = {}
    for part in PARTS:
        try:
            arrays[part] = np.asarray(getattr(own, part))
            assert arrays[part].ndim and arrays[part].dtype.kind in "biuf"
        except Exception:
            raise WrongAnswer(f"in the data, {part} is no array of numbers.") from None
    return model, SimpleNamespace(**arrays)


def _refuse_other_data(own, data, images):
    for part in ("train", "valid", "test"):
        x, y = getattr(own, f"x_{part}"), getattr(own, f"y_{part}")
        if not len(x) or len(x) != len(y):
            raise WrongAnswer(f"there are {len(x):,} images in x_{part} and {len(y):,} labels in y_{part}.")
    if len(own.x_train) > images:
        raise WrongAnswer(
            f"it trains on {len(own.x_train):,} images an epoch, the patient on {images:,}. More of it is no cure, and "
            "would hide whether yours is one."
        )
    if not np.array_equal(_labels(own.y_test), data.y_test):
        raise WrongAnswer("the test images, or their labels, are no longer the clinic's. Leave them as they are.")


def _refuse_other_networks(model, own, hidden):
    try:
        shape = tuple(np.shape(model(_batch(own.x_train[:2]), training=False)))
    except Exception as error:
        raise WrongAnswer(f"asked for two images, the network stopped: {_reason(error)}.") from None
    if shape != (2, 10):
        raise WrongAnswer(f"for two images, the network should give ten numbers each; it gives the shape {shape}.")
    kernels = [weight for weight in model.trainable_weights if weight.name == "kernel" and len(weight.shape) == 2]
    widths = [kernel.shape[-1] for kernel in kernels][:-1]
    if widths != list(hidden):
        layers = f"{len(hidden)} hidden layers of {hidden[0]} units" if len(hidden) > 1 else f"{hidden[0]} hidden units"
        if len(set(hidden)) > 1:
            layers = f"hidden layers of {' and '.join(map(str, hidden))} units"
        raise WrongAnswer(
            f"the patient has {layers}; yours has {widths or 'none'}. Treat this network, do not replace it."
        )


def _reason(error):
    return (str(error).splitlines() or [""])[0][:150].rstrip(". ")


def _batch(x):
    return np.asarray(x, dtype="float32")


def _labels(y):
    """Labels (n,), also of one-hot ones."""
    y = np.asarray(y)
    return y.argmax(axis=1) if y.ndim == 2 and y.shape[1] == 10 else y.reshape(len(y), -1)[:, 0]


def _probabilities(answers):
    return bool((answers >= 0).all()) and np.allclose(answers.sum(axis=1), 1, atol=0.02)


def _kind(model, own, outputs):
    """What the outputs are, together with the loss that the network was trained with; "" where these do not agree."""
    import keras

    if _probabilities(outputs):
        return "probabilities"
    if (outputs <= 0).all() and _probabilities(np.exp(outputs)):
        return "log probabilities"
    loss = keras.losses.get(model.loss) if isinstance(model.loss, str) else model.loss
    try:
        y, z = own.y_train[:LOOK], _batch(model(_batch(own.x_train[:LOOK]), training=False))
        here, there = (float(np.mean(loss(y, z + shift))) for shift in (0, 3))  # a softmax does not feel the shift
        if abs(here - there) <= 1e-3 * max(1, abs(here)):
            return "logits"
    except Exception:  # a loss that takes something else
        if getattr(loss, "from_logits", False):
            return "logits"
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "")
    shares = ((outputs >= 0) & (outputs <= 1)).all() or getattr(loss, "from_logits", False)
    if "binary" in str(name) and own.y_train.ndim == 2 and shares:
        return "yes or no for each digit"
    return ""


def _examined(answer, data, hidden, images=None):
    """The network before training, normalized by the images that it gets; None where it cannot be examined.

    Returns `layers`, what `diagnose` says of those from the first kernel on; `silent`, by depth but the last, the share
    of units that are flat for every image, or above 0 for none; `arriving`, the typical size of the first hidden
    layer's sums, as its activation gets them.
    """
    import keras

    from labkit.diagnose import diagnose

    model, own = prepared(answer, data, hidden, SEEDS[0], images)
    x, y = _batch(own.x_train[:LOOK]), own.y_train[:LOOK]

    def at(tensor):
        return np.asarray(keras.Model(model.inputs[0], tensor)(x, training=True))

    try:
        layers = diagnose(model, x, y, training=True).layers
        layers, silent, arriving = layers[layers.depth > 0], [], math.nan
        for depth, some in layers[layers.depth < layers.depth.max()].groupby("depth"):
            active = some[some.saturated.notna()]
            last = (active if len(active) else some).iloc[-1]
            layer = model.get_layer(last.layer)
            never = float((at(layer.output) <= 0).all(axis=0).mean())
            silent.append(max(never, 0 if math.isnan(last.dead) else last.dead))
            if depth == 1:
                sums = at(layer.input)
                if isinstance(layer, keras.layers.Dense):
                    sums = sums @ np.asarray(layer.kernel) + (np.asarray(layer.bias) if layer.use_bias else 0)
                arriving = float(np.sqrt(np.mean(sums**2)))
    except Exception:  # not a model whose layers can be looked at one by one
        return None
    return SimpleNamespace(layers=layers, silent=silent, arriving=arriving)


def _hidden(found, column):
    """A column of a diagnosis at each depth but the last: of the layer whose activation counts, or the last one."""
    inner = found.layers[found.layers.depth < found.layers.depth.max()]
    return inner.groupby("depth")[column].last().to_numpy()


def _growth(found):
    """How many times the first hidden layer's spread the last one has, before training; 1 where it is not known."""
    if found is None:
        return 1.0
    spread = _hidden(found, "spread")
    return float(spread[-1] / spread[0]) if spread[0] > 0 else 1.0


def _still_there(run, sign):
    """What to say of a network that trains again and still has the sign of its patient's cause."""
    return Wrong(f"it trains again (it reads {_share([run])}), but the cause is still there: {sign}")


def _share(runs):
    """How many of 100 fresh images these runs read, as a text."""
    shares = dict.fromkeys(f"{100 * run.accuracy:.0f}" for run in runs)
    return f"{' and '.join(shares)} of 100 fresh images"


def _not_enough(runs, least, sick):
    """What to say of a repair with which the network reads too few fresh images; "" if it reads enough.

    least: accuracy that a cure reaches. sick: what the patient reaches at most.
    """
    if math.isnan(runs[0].loss):
        return "the loss is not a number any more after training. Where do such large numbers come from?"
    best = max(run.accuracy for run in runs)
    if best >= least:
        return ""
    seeds = ", with two seeds," if len(runs) > 1 else ""
    if best <= sick:
        return (
            f"trained anew{seeds} it reads {_share(runs)}: that is no recovery. A cause is still there, or a new one "
            "has come."
        )
    return (
        f"trained anew{seeds} it reads {_share(runs)}: more than the patient, and still not what this network can do "
        f"(over {100 * least:.0f}). A symptom is eased; a cause is still there, or a new one has come."
    )


def _reads(least):
    """A function of a run: whether it reads at least this share of fresh images."""
    return lambda run: run.accuracy >= least and math.isfinite(run.loss)


@exercise(
    "08.patient-1",
    hints=[
        "Before training, nearly every output of the first hidden layer is saturated. How large is what arrives there?",
        "Compare with the healthy network, line by line. What is between its input and its first hidden layer?",
    ],
    solution="""
# D, the pixels have the wrong scale: from 0 to 255, they drive tanh far into its flat ends.
# To divide all three x of the data by 255 does the same as the Rescaling.
def repaired_1(data):
    model = keras.Sequential([
        keras.Input((784,)),
        layers.Rescaling(1 / 255, name="scale"),
        layers.Dense(12, activation="tanh", name="hidden_1"),
        layers.Dense(12, activation="tanh", name="hidden_2"),
        layers.Dense(10, activation="softmax", name="digit"),
    ])
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_1(answer, data):
    """A function: patient 1, repaired (tanh on raw pixels)."""
    _, own = prepared(answer, data, [12, 12], SEEDS[0])
    sizes = [float(np.percentile(abs(_batch(x)), 95)) for x in (own.x_train, own.x_valid, own.x_test)]
    if not min(sizes) >= max(sizes) / 5:
        return Wrong("training, validation and test images no longer have the same scale: do the same to all three.")
    well, runs = tried(answer, data, [12, 12], _reads(THRESHOLDS[1]))
    found = _examined(answer, data, [12, 12])
    large = found is not None and found.arriving > 10
    if not well:
        complaint = _not_enough(runs, THRESHOLDS[1], 0.68)
        if large and _hidden(found, "saturated")[0] > 0.5:
            complaint += " Before training, most outputs of the first hidden layer are still saturated."
        return Wrong(complaint)
    if large:
        return _still_there(
            runs[0], f"before training, what arrives at the first activation has a size of about {found.arriving:.0f}."
        )
    return Right()


@exercise(
    "08.patient-2",
    hints=[
        "The last layer takes numbers that are probabilities already. How far apart can two of them be?",
        "One layer too many turns numbers into probabilities. Or let the loss do all of it, from the logits.",
    ],
    solution="""
# E, softmax is taken twice. The layer layers.Softmax goes; the one before it has a softmax.
def repaired_2(data):
    model = keras.Sequential([
        keras.Input((784,)),
        layers.Rescaling(1 / 255, name="scale"),
        layers.Dense(64, activation="relu", name="hidden"),
        layers.Dense(10, activation="softmax", name="digit"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_2(answer, data):
    """A function: patient 2, repaired (softmax of a softmax)."""
    well, runs = tried(answer, data, [64], lambda run: _sure(run) >= THRESHOLDS[2] and run.accuracy >= 0.7)
    run = runs[0]
    if well and not run.kind:
        return _still_there(run, _no_probabilities(run))
    if well:
        return Right()
    if not run.accuracy >= 0.5:
        return Wrong(
            f"now it reads only {_share(runs)}. Does the loss get what it expects: probabilities, or else logits, and "
            "the word that says so?"
        )
    if not run.kind:
        return Wrong(
            f"the last layer's numbers are no probabilities, but the loss takes them for such ({run.loss:.2f} on fresh "
            "images). It has to be told."
        )
    if run.kind != "probabilities":
        return Wrong(f"its loss on fresh images is {run.loss:.2f}, far above what this network can reach.")
    top = float(run.outputs.max(axis=1).mean())
    return Wrong(
        f"its loss on fresh images is {run.loss:.2f}. To the digit that it answers, it gives a probability of "
        f"{top:.2f} on average: what holds it back?"
    )


def _sure(run):
    """The probability that a run gives to the right digit of fresh images, as a geometric mean."""
    return math.exp(-run.loss) if math.isfinite(run.loss) else 0.0


def _no_probabilities(run):
    sums = float(run.outputs.sum(axis=1).mean())
    return f"the ten outputs sum to {sums:.2f} on average, not to 1, and nothing tells the loss that it gets logits."


@exercise(
    "08.patient-3",
    hints=[
        "Before the first step, the spread grows from layer to layer. What decides by how much?",
        "What are the arguments of RandomNormal, in their order? help(keras.initializers.RandomNormal) says it.",
    ],
    solution="""
# C, signal and gradient explode. The first argument of RandomNormal is the mean, so all weights are about 0.15, and
# their sum grows tenfold with each layer. Meant was the standard deviation; "he_normal" does as well.
def repaired_3(data):
    model = keras.Sequential([keras.Input((784,)), layers.Rescaling(1 / 255, name="scale")])
    for i in range(1, 7):
        init = keras.initializers.RandomNormal(stddev=0.15)
        model.add(layers.Dense(64, activation="relu", kernel_initializer=init, name=f"hidden_{i}"))
    model.add(layers.Dense(10, activation="softmax", name="digit"))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_3(answer, data):
    """A function: patient 3, repaired (a mean where a standard deviation was meant)."""
    return _deep(
        answer,
        data,
        [64] * 6,
        THRESHOLDS[3],
        grows="Before the first step, the spread still grows from layer to layer.",
        shrinks="Now the spread shrinks from layer to layer: you have gone too far the other way.",
    )


def _deep(answer, data, hidden, least, *, grows, shrinks):
    """Judge the repair of a deep network, whose spread before training may neither grow nor shrink a hundredfold.

    grows, shrinks: what to add where it does, and the network does not read enough.
    """
    well, runs = tried(answer, data, hidden, _reads(least))
    growth = _growth(_examined(answer, data, hidden))
    far = growth if growth > 1 else 1 / max(growth, 1e-30)
    if not well:
        extra = "" if not far > 100 else f" {grows if growth > 1 else shrinks}"
        return Wrong(_not_enough(runs, least, 0.2) + extra)
    if far > 100:
        how = "times" if growth > 1 else "th part of"
        return _still_there(
            runs[0], f"before training, the last hidden layer has {_round(far)} {how} the first one's spread."
        )
    return Right()


def _round(value):
    """A number with two digits that count, without an exponent."""
    return f"{float(f'{value:.2g}'):,.0f}"


@exercise(
    "08.patient-4",
    hints=[
        "The network is sound: examine what it is taught. Print a few images and their labels.",
        "Two lists are shuffled, one after the other. Does image 0 still have its own label?",
    ],
    solution="""
# G, labels do not belong to their images: two calls of random.shuffle give two different orders. One order for both
# does. So does no shuffling at all: `fit` shuffles images together with their labels, in every epoch.
def repaired_4(data):
    order = random.sample(range(len(data.x_train)), len(data.x_train))
    data = dataclasses.replace(data, x_train=data.x_train[order], y_train=data.y_train[order])
    model = keras.Sequential([
        keras.Input((784,)),
        layers.Rescaling(1 / 255, name="scale"),
        layers.Dense(64, activation="relu", name="hidden_1"),
        layers.Dense(64, activation="relu", name="hidden_2"),
        layers.Dense(10, activation="softmax", name="digit"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_4(answer, data):
    """A function: patient 4, repaired (images and labels shuffled apart)."""
    well, runs = tried(answer, data, [64, 64], _reads(THRESHOLDS[4]))
    if well:
        return Right()
    run, complaint = runs[0], _not_enough(runs, THRESHOLDS[4], 0.2)
    if run.trained > 0.5:
        return Wrong(
            f"it reads {100 * run.trained:.0f} of 100 of its training images, and {_share(runs)}. What it has learned "
            "there is of no use here."
        )
    labels = _labels(run.data.y_train)
    if (np.diff(labels) >= 0).all():
        return Wrong(f"{complaint} The labels come in their own order, from 0 to 9. Do the images?")
    if len(labels) == len(data.y_train):
        kept = [np.array_equal(run.data.x_train, data.x_train), np.array_equal(labels, data.y_train)]
        if kept[0] != kept[1]:
            moved, left = ("labels", "images") if kept[0] else ("images", "labels")
            return Wrong(f"{complaint} The {left} are as the clinic gave them, and the {moved} are not.")
    return Wrong(f"{complaint} Take an image of the training data as your function returns it. Is its label right?")


@exercise(
    "08.patient-5",
    hints=[
        "The spread shrinks by the same factor with each layer. Lab 04 derived which weights keep it, for ReLU.",
        "Var(w) = 2 / inputs. There is an initializer of this name, by He and others.",
    ],
    solution="""
# A, the signal vanishes. "random_normal" has a standard deviation of 0.05, whatever the layer's size; 64 ReLU units
# want sqrt(2 / 64), more than three times as much. He's initializer draws just that.
def repaired_5(data):
    model = keras.Sequential([keras.Input((784,)), layers.Rescaling(1 / 255, name="scale")])
    for i in range(1, 9):
        model.add(layers.Dense(
            64, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}"
        ))
    model.add(layers.Dense(10, activation="softmax", name="digit"))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_5(answer, data):
    """A function: patient 5, repaired (weights that are too small for eight layers)."""
    return _deep(
        answer,
        data,
        [64] * 8,
        THRESHOLDS[5],
        grows="Now the spread grows from layer to layer: you have gone too far the other way.",
        shrinks="Before training, the last hidden layer has a tiny part of the first one's spread.",
    )


@exercise(
    "08.patient-6",
    hints=[
        "In training, batch normalization uses mean and spread of the batch. What are these for a batch of one image?",
        "Who decides in which mode the normalization works? In this class, it is not Keras.",
    ],
    solution="""
# I, batch normalization works in the wrong mode: training=True makes it use the batch's own mean and spread for ever.
class MendedBlock(Block):
    def call(self, x):
        return keras.ops.relu(self.norm(self.dense(x)))  # Keras itself knows whether it trains


def repaired_6(data):
    model = keras.Sequential([keras.Input((784,)), layers.Rescaling(1 / 255, name="scale")])
    for i in (1, 2):
        model.add(MendedBlock(64, name=f"hidden_{i}"))
    model.add(layers.Dense(10, activation="softmax", name="digit"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_6(answer, data):
    """A function: patient 6, repaired (normalization by the batch, in service as well)."""
    together = _reads(0.75)
    well, runs = tried(answer, data, [64, 64], lambda run: together(run) and _alone(run)[0] >= THRESHOLDS[6])
    run = runs[0]
    if not well:
        if not together(run):
            return Wrong(f"together, it is worse than the patient was: {_not_enough([run], 0.75, 0.3)}")
        right, different = _alone(run)
        same = " Alone, all images get the same answer." if different == 1 else ""
        return Wrong(
            f"handed in together, it reads {_share([run])}; one at a time, {100 * right:.0f}.{same} What it makes of "
            "an image still depends on the others."
        )
    if not any("Normalization" in type(layer).__name__ for layer in _parts(run.model)):
        return Wrong(
            "it works. But you have amputated: no layer that normalizes is left. Keep a normalization, and mend it."
        )
    moving = [w for w in run.model.non_trainable_variables if w.name == "moving_variance"]
    if moving and all(np.all(np.asarray(w) == 1) for w in moving):
        return Wrong(
            "it works, but as if there were no normalization: its averages still are what they were at the start."
        )
    return Right()


def _alone(run):
    """Of fresh images handed in one at a time: the share read rightly, and how many different answers there are."""
    import tensorflow as tf

    if not hasattr(run, "alone"):
        read = tf.function(lambda image: run.model(image, training=False))  # a graph: many times as fast
        images = tf.constant(_batch(run.data.x_test[:ALONE]))
        answers = np.array([int(np.argmax(read(images[i : i + 1]))) for i in range(len(images))])
        run.alone = float(np.mean(answers == run.labels[:ALONE])), len(set(answers.tolist()))
    return run.alone


def _parts(layer, seen=None):
    """A layer and all layers inside of it, in whatever they are kept."""
    import keras

    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer
    for value in (getattr(layer, "layers", []), *list(vars(layer).values())):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        for one in inner:
            if isinstance(one, keras.layers.Layer):
                yield from _parts(one, seen)


@exercise(
    "08.patient-7",
    hints=[
        "There is gradient, and nothing moves. The learning rate stands between the two. How large is it at the end?",
        "In which unit does ExponentialDecay count its decay_steps: in epochs, or in batches?",
    ],
    solution="""
# J, the steps have the wrong size: decay_steps counts batches, so the rate falls by a fifth with each of them. An epoch
# has 40 batches. (A constant rate trains as well.)
def repaired_7(data):
    model = keras.Sequential([
        keras.Input((784,)),
        layers.Rescaling(1 / 255, name="scale"),
        layers.Dense(64, activation="relu", name="hidden_1"),
        layers.Dense(64, activation="relu", name="hidden_2"),
        layers.Dense(10, activation="softmax", name="digit"),
    ])
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=40, decay_rate=0.8)
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_7(answer, data):
    """A function: patient 7, repaired (a learning rate that falls with each batch)."""
    well, runs = tried(answer, data, [64, 64], _reads(THRESHOLDS[7]))
    run = runs[0]
    if not well:
        complaint = _not_enough(runs, THRESHOLDS[7], 0.4)
        late = run.losses[1] - run.losses[-1]
        if abs(late) < 0.02 * run.losses[1]:
            complaint += " From the second epoch on, the loss stands still: nothing moves any more."
        return Wrong(complaint)
    kept = _kept_of_the_rate(run)
    if not 0.77 <= kept <= 0.83:
        return _still_there(
            run,
            f"after an epoch, {100 * kept:.3g} % of the learning rate are left, where its owner wants 80 %. In which "
            "unit does the schedule count, and how many of these has an epoch?",
        )
    return Right()


def _kept_of_the_rate(run):
    """What an epoch leaves of the learning rate, if it is a rate that falls by the same share again and again.

    Taken in the middle of epochs, so that a staircase does not matter. A rate that never changes counts as what its
    owner wants, and so does a schedule of another shape, which has no such share.
    """
    optimizer, steps = run.model.optimizer, math.ceil(len(run.data.x_train) / BATCH)

    def rate(epoch):
        optimizer.iterations.assign(int(steps * (epoch + 0.5)))
        return float(np.asarray(optimizer.learning_rate))

    rates = np.array([rate(epoch) for epoch in range(EPOCHS)])
    late = rate(1000 * EPOCHS)
    if np.allclose([*rates, late], rates[0], rtol=1e-6, atol=0):
        return 0.8
    shares = rates[1:] / np.maximum(rates[:-1], 1e-30)
    if np.ptp(shares) > 0.01 and _schedule(optimizer) != "ExponentialDecay":
        return 0.8
    return float(rates[-1] / rates[0]) ** (1 / (EPOCHS - 1))


def _schedule(optimizer):
    """The name of an optimizer's schedule; "" where it has none, or one that does not tell."""
    try:
        return optimizer.get_config()["learning_rate"]["class_name"]
    except Exception:
        return ""


@exercise(
    "08.patient-8",
    hints=[
        "For many images, all ten outputs are 0. Which activation can say that?",
        "In the loop, every layer gets the same activation. Should the last one?",
    ],
    solution="""
# F, the output layer has the wrong activation: ReLU, like the layers before it. The loop ends one layer earlier.
def repaired_8(data):
    model = keras.Sequential([keras.Input((784,)), layers.Rescaling(1 / 255, name="scale")])
    for i, units in enumerate((64, 32), start=1):
        model.add(layers.Dense(units, activation="relu", name=f"layer_{i}"))
    model.add(layers.Dense(10, activation="softmax", name="layer_3"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_8(answer, data):
    """A function: patient 8, repaired (ReLU as the last activation)."""
    well, runs = tried(answer, data, [64, 32], _reads(THRESHOLDS[8]))
    run = runs[0]
    if not well:
        return Wrong(f"{_not_enough(runs, THRESHOLDS[8], 0.35)}{_lacking(run)}")
    zero = float((run.outputs == 0).mean())
    if zero > 0.01 and run.kind != "probabilities":
        return _still_there(
            run, f"of 100 outputs, {100 * zero:.0f} are exactly 0. An output that cannot fall below 0 has no gradient."
        )
    if not run.kind:
        return _still_there(run, _no_probabilities(run))
    return Right()


def _lacking(run):
    """What else is odd about the answers of a network that reads too few images."""
    none = float((run.outputs == 0).all(axis=1).mean())
    if none > 0.1:
        return f" For {100 * none:.0f} of 100 images, all ten outputs are exactly 0."
    if lacking := 10 - len(set(run.outputs.argmax(axis=1).tolist())):
        return f" {lacking} of the ten digits it never answers."
    return "" if run.kind else " The ten outputs are no probabilities: they are not all positive, or do not sum to 1."


@exercise(
    "08.patient-9",
    hints=[
        "Take a validation image. Is there another copy of the same image among the training images?",
        "Split the thousand images first, then make noisy copies of those for training only.",
    ],
    solution="""
# H, images of the validation data are in the training data: of each image, another noisy copy. So the split comes
# first: copies of 800 images to train on, and the other 200 as they are for validation.
def repaired_9(data):
    x, y = data.x_train[:1000], data.y_train[:1000]
    noise = np.random.default_rng(1).normal(0, 20, (5, 800, 784))
    copies = np.clip(x[:800] + noise, 0, 255).astype("float32").reshape(-1, 784)
    data = dataclasses.replace(
        data, x_train=copies, y_train=np.tile(y[:800], 5), x_valid=x[800:], y_valid=y[800:]
    )
    model = keras.Sequential([
        keras.Input((784,)),
        layers.Rescaling(1 / 255, name="scale"),
        layers.Dense(128, activation="relu", name="hidden"),
        layers.Dense(10, activation="softmax", name="digit"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_9(answer, data):
    """A function: patient 9, its validation repaired (noisy copies on both sides of the split)."""
    _, own = prepared(answer, data, [128], SEEDS[0], images=5000)
    if len(own.x_valid) < 100:
        return Wrong(f"with {len(own.x_valid)} validation images, luck decides. Keep a hundred at least.")
    if complaint := _provenance(answer, data, own):
        if complaint.startswith("Of 100"):
            run = treated(answer, data, [128], SEEDS[0], images=5000)
            saw = f"validation says {100 * _seen(run):.0f} of 100, fresh images say {100 * run.accuracy:.0f}."
            complaint = f"{saw} {complaint}"
        return Wrong(complaint)

    def honest(run):
        luck = 3 * math.sqrt(max(run.accuracy * (1 - run.accuracy), 1e-4) / len(run.data.x_valid))
        return abs(_seen(run) - run.accuracy) <= max(THRESHOLDS[9], luck)

    well, runs = tried(answer, data, [128], lambda run: honest(run) and run.accuracy >= 0.75, images=5000)
    if well:
        return Right()
    run = runs[0]
    if not honest(run):
        return Wrong(
            f"validation says {100 * _seen(run):.0f} of 100, fresh images say {100 * run.accuracy:.0f}: more than "
            "luck. Are the validation images like those that come in service, and strangers to the training images?"
        )
    return Wrong(_not_enough(runs, 0.75, 0.5) or "with other seeds, validation and fresh images do not agree.")


def _seen(run):
    """Accuracy on a run's own validation images."""
    answers = np.asarray(run.model(_batch(run.data.x_valid), training=False)).argmax(axis=1)
    return float(np.mean(answers == _labels(run.data.y_valid)))


def _provenance(answer, data, own):
    """What is wrong with where patient 9's images come from; "" if nothing, or if they cannot be traced."""
    known = {row.tobytes() for row in _batch(own.x_test)}
    exact = [np.mean([row.tobytes() in known for row in _batch(x)]) for x in (own.x_train, own.x_valid)]
    train, valid = _traced(answer, data)
    certain = all((part != LOST).mean() >= 0.9 for part in (train, valid))
    if max(exact) > 0.1 or (certain and any((part == TEST).mean() > 0.1 for part in (train, valid))):
        return "the test images are in use. They are the clinic's, and must stay fresh; take others."
    if not certain:  # nothing is said, and the accuracies have to agree
        return ""
    if (train >= 0).mean() < 0.5:
        return "it hardly trains on the owner's thousand images any more: use them."
    if (valid >= 0).mean() < 0.6:
        return "the owner has a thousand images, the first ones of x_train, and no others. Validate on some of these."
    shared = float(np.isin(valid[valid >= 0], train[train >= 0]).mean())
    if shared > 0.02:
        return f"Of 100 validation images, {100 * shared:.0f} have another copy among the training images."
    return ""


OTHERS, TEST, LOST = (
    -1,
    -2,
    -3,
)  # a mark that is none of the owner's images: the clinic's other ones, a test image, none


def _traced(answer, data):
    """Where the training and validation images of a repaired function come from.

    The function gets marks in place of images. Its noise, shifts and turns leave them readable.
    Returns for each part (n,) the number of the owner's image that it was made of, or OTHERS, TEST, LOST.
    """
    import keras

    words, _ = _marks()
    rest = len(words) - OWNED
    blocks = np.kron(words.reshape(-1, 4, 4), np.ones((7, 7), int)).reshape(len(words), -1)
    marked = {}
    for part, first in (("x_train", 0), ("x_valid", OWNED), ("x_test", OWNED + rest // 2)):
        n = np.arange(len(getattr(data, part)))
        which = np.where((n < OWNED) & (first == 0), n, max(first, OWNED) + n % (rest // 2))
        marked[part] = (255 * blocks[which]).astype(getattr(data, part).dtype)
    keras.utils.set_random_seed(SEEDS[0])
    try:
        _, own = _pair(call(answer, dataclasses.replace(copy.deepcopy(data), **marked)))
        return _read(own.x_train), _read(own.x_valid)
    except Exception:  # marks are no images to it
        return np.full(1, LOST), np.full(1, LOST)


@functools.cache
def _marks():
    """Words of 16 bits that differ in four at least, and a table: for each 16 bits, the number of its word or LOST.

    They are those of the extended Hamming code, in which one wrong bit can be put right. Bits are mixed, so that a
    turned or mirrored mark is not another one.
    """
    rng = np.random.default_rng(8)
    every = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    checks = np.column_stack([np.ones(16, int), *((np.arange(16) >> bit) & 1 for bit in range(4))])
    words = every[(every @ checks % 2 == 0).all(axis=1)]
    words = rng.permutation(words[(words.sum(axis=1) > 0) & (words.sum(axis=1) < 16)])[:, rng.permutation(16)]
    table, values = np.full(2**16, LOST), words @ 2 ** np.arange(16)
    table[values] = np.arange(len(words))
    for bit in range(16):
        table[values ^ (1 << bit)] = np.arange(len(words))
    return words, table


def _read(images):
    """Which marks these are: (n,) the number of the owner's image, or OTHERS, TEST, LOST."""
    words, table = _marks()
    if images[0].size != 784:
        return np.full(len(images), LOST)
    squares = _batch(images).reshape(-1, 4, 7, 4, 7)[:, :, 2:5, :, 2:5].mean(axis=(2, 4)).reshape(-1, 16)
    middle = np.percentile(squares, (5, 95), axis=0).mean(axis=0)
    found = table[(squares > middle) @ 2 ** np.arange(16)]
    others = OWNED + (len(words) - OWNED) // 2
    return np.where(found < OWNED, found, np.where(found < others, OTHERS, TEST))


@exercise(
    "08.patient-10",
    hints=[
        "Before training, every unit of the first hidden layer answers 0 to every image. What is added to its sum?",
        "The paper puts this bias on the outputs that give the classes, and nowhere else. Which layer is that here?",
    ],
    solution="""
# B, the units are dead: with a bias of -4.6, no image lifts a hidden unit above 0, so it answers 0 and has no
# gradient. In the paper only the last layer has it, with sigmoids. Under a softmax, the same bias for all classes
# cancels: it does no harm there, and no good.
def repaired_10(data):
    rare = keras.initializers.Constant(-4.6)  # on the last layer only; a softmax does not feel it
    model = keras.Sequential([keras.Input((784,)), layers.Rescaling(1 / 255, name="scale")])
    for i in (1, 2):
        model.add(layers.Dense(64, activation="relu", name=f"hidden_{i}"))
    model.add(layers.Dense(10, activation="softmax", bias_initializer=rare, name="digit"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_10(answer, data):
    """A function: patient 10, repaired (a bias that kills ReLUs)."""
    well, runs = tried(answer, data, [64, 64], _reads(THRESHOLDS[10]))
    found = _examined(answer, data, [64, 64])
    if not well:
        complaint = _not_enough(runs, THRESHOLDS[10], 0.2)
        if found is not None and (_hidden(found, "spread") == 0).any():
            at = int(np.argmax(_hidden(found, "spread") == 0)) + 1
            complaint += f" Before training, hidden layer {at} still puts out the same for every image."
        return Wrong(complaint)
    if found is not None and not max(found.silent) < 0.5:
        at = int(np.argmax(found.silent)) + 1
        return _still_there(
            runs[0],
            f"before training, {100 * max(found.silent):.0f} % of the units of hidden layer {at} are in the flat of "
            "their activation for every image, or above 0 for none. What pushes them down there?",
        )
    return Right()


CAUSES = dict(zip(range(1, 11), "DECGAIJFHB", strict=True))
NUDGES = {
    (3, "A"): "its spread does not shrink; look at the axis.",
    (5, "B"): "its spread is small, but exactly 0 nowhere.",
    (10, "A"): "its spread does not shrink little by little: it is exactly 0 at once.",
    (2, "F"): "its outputs do sum to 1. But the loss has a floor.",
    (8, "E"): "its loss begins above ln 10, and its outputs do not sum to 1.",
    (7, "A"): "every layer has a gradient.",
    (7, "B"): "every layer has a gradient.",
    (4, "H"): "then it would be too good. It learns nothing.",
    (9, "G"): "then it would not learn. It is too good.",
    (1, "A"): "it learns somewhat, so signal arrives. What is odd at depth 1?",
    (1, "B"): "its units are no ReLUs, and none answers 0. They stick at -1 or 1: what is too large for them?",
}
TEMPLATE = ("the symptom", "the test that settles it")  # what the lab has in place of words


@exercise(
    "08.causes",
    hints=[
        "Each letter from A to J comes up once. Begin with the patients whose repair was accepted.",
        'solution("08.patient-1") begins with the letter, and so for the others.',
    ],
    solution="""
# The words are the clinic's; yours will differ.
rows = {
    1: ("learns, far too little", "saturated at depth 1 before training?", "D"),
    2: ("accuracy good, loss stuck", "loss never below its floor, 1.461?", "E"),
    3: ("loss huge or NaN", "spread grows before training?", "C"),
    4: ("validation at chance, chart sound", "print images with their labels", "G"),
    5: ("flat at ln 10", "spread shrinks, but is not 0?", "A"),
    6: ("good curves, useless in service", "one image at a time", "I"),
    7: ("stops in the middle", "gradient there, but nothing moves?", "J"),
    8: ("worse than knowing nothing", "do the outputs sum to 1?", "F"),
    9: ("too good", "fresh images, from elsewhere", "H"),
    10: ("flat at ln 10", "dead for all images; gradient exactly 0?", "B"),
}
answer = rows
""",
)
def causes(answer):
    """The letters of the ten causes: a dict of patient -> (symptom, test, letter)."""
    if not isinstance(answer, dict):
        raise WrongAnswer(f"the answer is the dict `rows`; this is a {type(answer).__name__}.")
    lacking = [n for n in CAUSES if n not in answer]
    if lacking:
        return Wrong(f"these patients have no row yet: {', '.join(map(str, lacking))}.")
    given = {}
    for n in CAUSES:
        row = answer[n]
        if row is ... or (isinstance(row, (tuple, list)) and any(part is ... for part in row)):
            raise NotAnswered("not answered yet")
        if isinstance(row, str) or (isinstance(row, (tuple, list)) and len(row) == 1):
            return Wrong(f"the row of patient {n} lacks words: it is a symptom, a test and a letter, in this order.")
        if not isinstance(row, (tuple, list)) or len(row) != 3:
            return Wrong(f"the row of patient {n} is a symptom, a test and a letter, separated by commas.")
        if not isinstance(row[2], str) or row[2].strip().upper()[:1] not in set(CAUSES.values()):
            return Wrong(f"patient {n}: the causes have letters from A to J; this is {row[2]!r}.")
        given[n] = row[2].strip().upper()[0]
        words = [part.strip() if isinstance(part, str) else "" for part in row[:2]]
        if not all(len(part) > 1 for part in words) or any(a == b for a, b in zip(words, TEMPLATE, strict=True)):
            return Wrong(f"the row of patient {n} lacks words: what did you see, and which test settled it?")
    wrong = [n for n in CAUSES if given[n] != CAUSES[n]]
    if not wrong:
        return Right()
    n = wrong[0]
    nudge = NUDGES.get((n, given[n]), "which measurement speaks for it, and for no other cause?")
    twice = sorted({letter for letter in given.values() if list(given.values()).count(letter) > 1})
    if twice:
        come = "comes" if len(twice) == 1 else "come"
        nudge += f" And {', '.join(twice)} {come} up more than once; each cause has one patient."
    return Wrong(f"{10 - len(wrong)} of 10 are right. Patient {n} is not {given[n]}: {nudge}")


@exercise(
    "08.floor",
    hints=[
        "The best input of the second softmax: a 1 for the right class, a 0 for each of the others.",
        "The right class gets e / (e + classes - 1). The loss is minus the logarithm of that.",
    ],
    solution="""
def floor(classes):
    return np.log(np.e + classes - 1) - 1
""",
)
def floor(answer):
    """A function: the lowest loss that a softmax of a softmax can have with so many classes."""
    counts = np.array([2, 3, 10, 1000])
    right = np.log(np.e + counts - 1) - 1
    given = np.array([number(call(answer, int(n))) for n in counts])
    at = first_difference(given, right, rtol=0, atol=1e-3)
    if at is None:
        return Right()
    mistakes = (
        (np.log(counts), "that is the loss of somebody who knows nothing. The floor is what the best answer gets."),
        (-right, "the sign is the wrong way round: a loss is positive."),
        (np.exp(-right), "that is the probability of the right class. The loss is minus its logarithm."),
        (np.full(4, right[2]), "that is right for ten classes. Use `classes`."),
        (np.log(np.e + counts) - 1, "the right class is not among the others: they are one fewer than `classes`."),
        (right / np.log(2), "that is in bits. Keras uses the natural logarithm."),
        (np.zeros(4), "a loss of 0 would take a probability of 1, which this softmax cannot give. Which can it give?"),
    )
    for mistake, feedback in mistakes:
        if first_difference(given, mistake, rtol=0, atol=1e-3) is None:
            return Wrong(feedback)
    here, there = apart(given[at], right[at])
    return Wrong(f"with {counts[at]} classes the floor is {there}; it gives {here}.")


@exercise(
    "08.patient-11",
    hints=[
        "How large are the pixels that arrive at the first hidden layer? And when you have mended that: which floor?",
        "Each of the two has divided by 255. And two layers in a row make probabilities.",
    ],
    solution="""
# D and E: the pixels are divided by 255 twice, in the data and in the model, and softmax is taken twice. One of each
# goes.
def repaired_11(data):
    model = keras.Sequential([
        keras.Input((784,)),
        layers.Rescaling(1 / 255, name="scale"),
        layers.Dense(64, activation="relu", name="hidden_1"),
        layers.Dense(64, activation="relu", name="hidden_2"),
        layers.Dense(10, activation="softmax", name="digit"),
    ])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data
""",
)
def patient_11(answer, data):
    """A function: patient 11, repaired (pixels scaled twice, and a softmax of a softmax)."""
    well, runs = tried(answer, data, [64, 64], lambda run: _reads(0.75)(run) and _sure(run) >= THRESHOLDS[11])
    run, found = runs[0], _examined(answer, data, [64, 64])
    dark = found is not None and not _hidden(found, "spread")[0] >= 0.02
    if well and dark:
        spread = f"{_hidden(found, 'spread')[0]:.1g}"
        return _still_there(run, f"before training, the first hidden layer's spread is {spread}.")
    if well and not run.kind:
        return _still_there(run, _no_probabilities(run))
    if well:
        return Right()
    complaint = _not_enough(runs, 0.75, 0.2)
    if complaint and not max(run.accuracy for run in runs) > 0.2:
        return Wrong(
            f"{complaint} Before training, there is next to no spread at the first hidden layer." if dark else complaint
        )
    if math.isfinite(run.loss) and _sure(run) < THRESHOLDS[11]:
        return Wrong(
            f"it learns now, and reads {_share([run])}. But the loss is {run.loss:.2f}. Examine it once more, as you "
            "would a new patient."
        )
    return Wrong(complaint or "it recovers with some seeds only. Examine it once more, as you would a new patient.")
