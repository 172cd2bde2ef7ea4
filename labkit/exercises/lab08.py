"""Exercises of lab 08: networks that do not train as they should, to be repaired and named.

A repair is judged by what the network does: it is trained as the lab trains its patients, and asked for fresh images.
The thresholds lie between the sick and the repaired runs of the study 08.clinic, which the lab shows.
"""

import math
import warnings
from types import SimpleNamespace

import numpy as np

from labkit.errors import LabError
from labkit.exercises.core import NotAnswered, WrongAnswer, call, exercise, number, prediction

EPOCHS, BATCH, SEED = 8, 128, 1  # the lab's
LOOK = 500  # images on which a network is examined
ALONE = 100  # images that are answered one at a time
# What a repaired network has to reach on fresh images, by patient: accuracy; but of patients 2 and 11 the probability
# given to the right digit (geometric mean), of 6 the accuracy one image at a time, and of 9 at most this gap between
# validation and fresh accuracy. In the study, every sick run is on one side and every repaired run on the other.
THRESHOLDS = {1: 0.8, 2: 0.4, 3: 0.5, 4: 0.75, 5: 0.8, 6: 0.6, 7: 0.83, 8: 0.8, 9: 0.08, 10: 0.75, 11: 0.4}
PARTS = ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test")

prediction("08.alone", "which share of them does it read rightly, from 0 to 1?", low=0, high=1)
prediction("08.fresh", "which accuracy on fresh images, from 0 to 1?", low=0, high=1)
prediction("08.memorized", "which training accuracy, from 0 to 1?", low=0, high=1)


def treated(answer, data, hidden, images=None):
    """Call a repaired function, refuse what is no repair, and train its network as the lab does.

    answer: function (Dataset) -> (compiled model, Dataset). hidden: units of each hidden layer, which are to stay.
    images: how many training images there may be; None for as many as in `data`.
    Returns model and data; on fresh images `answers` (n, 10), after a softmax if the loss makes one, their
    cross-entropy `loss`, whatever it was trained with, and `accuracy`; `losses`, of the training epochs; `trained`,
    the accuracy of the last of them.
    """
    import keras

    keras.utils.set_random_seed(SEED)
    result = call(answer, data)
    model, own = _pair(result)
    _refuse_other_data(own, data, len(data.x_train) if images is None else images)
    _refuse_other_networks(model, hidden)
    if model.steps_per_execution == 1:
        model.steps_per_execution = 64
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras, where a loss and an output do not go together: judged below
            history = model.fit(own.x_train, own.y_train, batch_size=BATCH, epochs=EPOCHS, verbose=0).history
        answers = np.asarray(model(_batch(own.x_test), training=False))
    except (LabError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:150].rstrip(". ")
        raise WrongAnswer(f"training it stopped with {type(error).__name__}: {reason}.") from None
    wrong = np.isnan(answers).any(axis=1)
    if getattr(model.loss, "from_logits", False) and not _probabilities(answers):
        answers = np.exp(answers - answers.max(axis=1, keepdims=True))
        answers /= answers.sum(axis=1, keepdims=True)
    given = answers[np.arange(len(answers)), own.y_test]  # to the right digit
    if (answers >= 0).all():  # no softmax: Keras's losses make them sum to 1, too
        given = given / np.maximum(answers.sum(axis=1), 1e-7)
    return SimpleNamespace(
        model=model,
        data=own,
        answers=answers,
        loss=float(-np.log(np.clip(given, 1e-7, 1)).mean()),
        accuracy=float(((answers.argmax(axis=1) == own.y_test) & ~wrong).mean()),
        losses=history["loss"],
        trained=history.get("accuracy", [math.nan])[-1],
    )


def _pair(result):
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise WrongAnswer("the function returns two things, as the patient does: `return model, data`.")
    model, own = result
    if not hasattr(model, "fit") or not hasattr(model, "layers"):
        raise WrongAnswer(f"first comes the model; this is a {type(model).__name__}.")
    if not all(hasattr(own, part) for part in PARTS):
        raise WrongAnswer("second comes the data, with x_train, y_train, x_valid and so on; dataclasses.replace helps.")
    if not getattr(model, "compiled", False):
        raise WrongAnswer("the model is not compiled. The patient's is.")
    return model, own


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
    if len(own.y_test) != len(data.y_test) or not np.array_equal(own.y_test, data.y_test):
        raise WrongAnswer("the test images, or their labels, are no longer the clinic's. Leave them as they are.")


def _refuse_other_networks(model, hidden):
    if model.output_shape[1:] != (10,):
        raise WrongAnswer(f"for each image, ten numbers should come out; here the shape is {model.output_shape[1:]}.")
    kernels = [weight for weight in model.trainable_weights if weight.name == "kernel" and len(weight.shape) == 2]
    widths = [kernel.shape[-1] for kernel in kernels][:-1]
    if widths != list(hidden):
        layers = f"{len(hidden)} hidden layers of {hidden[0]} units" if len(hidden) > 1 else f"{hidden[0]} hidden units"
        if len(set(hidden)) > 1:
            layers = f"hidden layers of {' and '.join(map(str, hidden))} units"
        raise WrongAnswer(
            f"the patient has {layers}; yours has {widths or 'none'}. Treat this network, do not replace it."
        )


def _batch(x):
    return np.asarray(x, dtype="float32")


def _probabilities(answers):
    return bool((answers >= 0).all()) and np.allclose(answers.sum(axis=1), 1, atol=0.02)


def _examined(answer, data):
    """The diagnosis of the network before training, as a table by layer; None where it cannot be examined."""
    import keras

    from labkit.diagnose import diagnose

    keras.utils.set_random_seed(SEED)
    model, own = answer(data)
    try:
        layers = diagnose(model, _batch(own.x_train[:LOOK]), np.asarray(own.y_train[:LOOK])).layers
    except LabError:
        return None
    return layers[layers.depth > 0]


def _hidden(layers, column):
    """A column of a diagnosis at each depth but the last: of the layer whose activation counts, or the last one."""
    inner = layers[layers.depth < layers.depth.max()]
    return inner.groupby("depth")[column].last().to_numpy()


def _spread_says(answer, data, grows, shrinks):
    """What to add where, before training, the spread grows or shrinks 30-fold from first to last hidden layer."""
    layers = _examined(answer, data)
    if layers is None:
        return ""
    spread = _hidden(layers, "spread")
    if spread[-1] > 30 * spread[0]:
        return f" {grows}"
    return f" {shrinks}" if spread[-1] < spread[0] / 30 else ""


def _not_enough(found, least, sick):
    """What to say of a repair with which the network reads too few fresh images; None if it reads enough.

    least: accuracy that a cure reaches. sick: what the patient reaches at most.
    """
    if found.accuracy >= least and not math.isnan(found.loss):
        return None
    if math.isnan(found.loss):
        return "the loss is not a number any more after training. Where do such large numbers come from?"
    share = f"{100 * found.accuracy:.0f} of 100 fresh images"
    if found.accuracy <= sick:
        return f"trained anew, it reads {share}: that is no recovery. A cause is still there, or a new one has come."
    return (
        f"trained anew, it reads {share}: more than the patient, and still not what this network can do "
        f"(over {100 * least:.0f}). A symptom is eased; a cause is still there."
    )


@exercise(
    "08.patient-1",
    hints=[
        "Before training, nearly every output of the first hidden layer is saturated. How large is what arrives there?",
        "Compare with the healthy network, line by line. What is between its input and its first hidden layer?",
    ],
    solution="D, the pixels have the wrong scale: from 0 to 255, they drive tanh far into its flat ends. Add "
    'layers.Rescaling(1 / 255, name="scale") after keras.Input, or divide all three x of the data by 255.',
)
def patient_1(answer, data):
    """A function: patient 1, repaired (tanh on raw pixels)."""
    found = treated(answer, data, hidden=[12, 12])
    sizes = [float(np.ptp(_batch(x))) for x in (found.data.x_train, found.data.x_valid, found.data.x_test)]
    if min(sizes) < max(sizes) / 5:
        return "training, validation and test images no longer have the same scale: do the same to all three."
    if not (complaint := _not_enough(found, THRESHOLDS[1], 0.68)):
        return None
    layers = _examined(answer, data)
    if layers is not None and _hidden(layers, "saturated")[0] > 0.5:
        return f"{complaint} Before training, most outputs of the first hidden layer are still saturated."
    return complaint


@exercise(
    "08.patient-2",
    hints=[
        "The last layer takes numbers that are probabilities already. How far apart can two of them be?",
        "One layer too many turns numbers into probabilities. Or let the loss do all of it, from the logits.",
    ],
    solution="E, softmax is taken twice. Leave out the last layer, layers.Softmax; the one before it has a softmax.",
)
def patient_2(answer, data):
    """A function: patient 2, repaired (softmax of a softmax)."""
    found = treated(answer, data, hidden=[64])
    right = math.exp(-found.loss) if math.isfinite(found.loss) else 0.0
    if right >= THRESHOLDS[2] and found.accuracy >= 0.7:
        return None
    if found.accuracy < 0.5:
        return (
            f"now it reads only {100 * found.accuracy:.0f} of 100 fresh images. Does the loss get what it expects: "
            "probabilities, or else logits, and the word that says so?"
        )
    if not _probabilities(found.answers):
        return (
            f"the last layer's numbers are no probabilities, but the loss takes them for such ({found.loss:.2f} on "
            "fresh images). It has to be told."
        )
    top = float(found.answers.max(axis=1).mean())
    return (
        f"its loss on fresh images is {found.loss:.2f}. When it is sure of itself, it still gives its digit a "
        f"probability of no more than {top:.2f}: what holds it back?"
    )


@exercise(
    "08.patient-3",
    hints=[
        "Before the first step, the spread grows from layer to layer. What decides by how much?",
        "What are the arguments of RandomNormal, in their order? help(keras.initializers.RandomNormal) says it.",
    ],
    solution="C, signal and gradient explode. The first argument of RandomNormal is the mean, so all weights are "
    "about 0.15, and their sum grows tenfold with each layer. Write RandomNormal(stddev=0.15), or 'he_normal'.",
)
def patient_3(answer, data):
    """A function: patient 3, repaired (a mean where a standard deviation was meant)."""
    found = treated(answer, data, hidden=[64] * 6)
    if not (complaint := _not_enough(found, THRESHOLDS[3], 0.2)):
        return None
    return complaint + _spread_says(
        answer,
        data,
        grows="Before the first step, the spread still grows from layer to layer.",
        shrinks="Now the spread shrinks from layer to layer: you have gone too far the other way.",
    )


@exercise(
    "08.patient-4",
    hints=[
        "The network is sound: examine what it is taught. Print a few images and their labels.",
        "Two lists are shuffled, one after the other. Does image 0 still have its own label?",
    ],
    solution="G, labels do not belong to their images: two calls of random.shuffle give two different orders. Draw one "
    "order, order = random.sample(range(n), n), and use it for both: data.x_train[order], data.y_train[order]. Or "
    "leave both lists as they are: `fit` shuffles images together with their labels, in every epoch.",
)
def patient_4(answer, data):
    """A function: patient 4, repaired (images and labels shuffled apart)."""
    found = treated(answer, data, hidden=[64, 64])
    if not (complaint := _not_enough(found, THRESHOLDS[4], 0.2)):
        return None
    if found.trained > 0.5:
        return f"it knows its training images by heart, and of fresh ones it reads {100 * found.accuracy:.0f} of 100."
    own_y = np.asarray(found.data.y_train)
    if (np.diff(own_y) >= 0).all():
        return f"{complaint} The labels come in their own order, from 0 to 9. Do the images?"
    if len(own_y) == len(data.y_train):
        kept = [np.array_equal(getattr(found.data, part), getattr(data, part)) for part in ("x_train", "y_train")]
        if kept[0] != kept[1]:
            moved, left = ("labels", "images") if kept[0] else ("images", "labels")
            return f"{complaint} The {moved} are in a new order, and the {left} are in the old one."
    return f"{complaint} Take an image of the training data as your function returns it. Is its label right?"


@exercise(
    "08.patient-5",
    hints=[
        "The spread shrinks by the same factor with each layer. Lab 04 derived which weights keep it, for ReLU.",
        "Var(w) = 2 / inputs. There is an initializer of this name, by He and others.",
    ],
    solution="A, the signal vanishes. 'random_normal' has a standard deviation of 0.05, whatever the layer's size; "
    "64 ReLU units want sqrt(2 / 64), more than three times as much: kernel_initializer='he_normal'.",
)
def patient_5(answer, data):
    """A function: patient 5, repaired (weights that are too small for eight layers)."""
    found = treated(answer, data, hidden=[64] * 8)
    if not (complaint := _not_enough(found, THRESHOLDS[5], 0.2)):
        return None
    return complaint + _spread_says(
        answer,
        data,
        grows="Now the spread grows from layer to layer: you have gone too far the other way.",
        shrinks="Before training, the last hidden layer has a tiny part of the first one's spread.",
    )


@exercise(
    "08.patient-6",
    hints=[
        "In training, batch normalization uses mean and spread of the batch. What are these for a batch of one image?",
        "Who decides in which mode the normalization works? In this class, it is not Keras.",
    ],
    solution="I, batch normalization works in the wrong mode: training=True makes it use the batch's own mean and "
    "spread for ever. Leave the argument out: self.norm(self.dense(x)), and Keras passes on whether it trains.",
)
def patient_6(answer, data):
    """A function: patient 6, repaired (normalization by the batch, in service as well)."""
    found = treated(answer, data, hidden=[64, 64])
    if complaint := _not_enough(found, 0.75, 0.3):
        return f"together, it is worse than the patient was: {complaint}"
    images = _batch(found.data.x_test[:ALONE])
    alone = np.array([int(np.argmax(found.model(image[None], training=False))) for image in images])
    right = float(np.mean(alone == np.asarray(found.data.y_test[:ALONE])))
    if right < THRESHOLDS[6]:
        same = " Alone, all images get the same answer." if len(set(alone.tolist())) == 1 else ""
        return (
            f"handed in together, it reads {100 * found.accuracy:.0f} of 100 fresh images; one at a time, "
            f"{100 * right:.0f}.{same} What it makes of an image still depends on the others."
        )
    names = [type(layer).__name__ for layer in found.model._flatten_layers()]
    if not any("Normalization" in name for name in names):
        return "it works. But you have amputated: nothing is normalized any more. Keep a normalization, and mend it."
    moving = [w for w in found.model.non_trainable_variables if w.name == "moving_variance"]
    if moving and all(np.all(np.asarray(w) == 1) for w in moving):
        return "it works, but as if there were no normalization: its averages still are what they were at the start."
    return None


@exercise(
    "08.patient-7",
    hints=[
        "There is gradient, and nothing moves. The learning rate stands between the two. How large is it at the end?",
        "In which unit does ExponentialDecay count its decay_steps: in epochs, or in batches?",
    ],
    solution="J, the steps have the wrong size: decay_steps counts batches, so the rate falls by a fifth with each of "
    "them. An epoch has 40 batches: decay_steps=40. A constant rate mends it as well.",
)
def patient_7(answer, data):
    """A function: patient 7, repaired (a learning rate that falls with each batch)."""
    found = treated(answer, data, hidden=[64, 64])
    if not (complaint := _not_enough(found, THRESHOLDS[7], 0.4)):
        return None
    late = found.losses[1] - found.losses[-1]
    if abs(late) < 0.02 * found.losses[1]:
        return f"{complaint} From the second epoch on, the loss stands still: nothing moves any more."
    return complaint


@exercise(
    "08.patient-8",
    hints=[
        "For many images, all ten outputs are 0. Which activation can say that?",
        "In the loop, every layer gets the same activation. Should the last one?",
    ],
    solution="F, the output layer has the wrong activation: ReLU, like the layers before it. End the loop one layer "
    'earlier, and add layers.Dense(10, activation="softmax").',
)
def patient_8(answer, data):
    """A function: patient 8, repaired (ReLU as the last activation)."""
    found = treated(answer, data, hidden=[64, 32])
    if not (complaint := _not_enough(found, THRESHOLDS[8], 0.35)):
        zero = float((found.answers[np.arange(len(found.answers)), found.data.y_test] == 0).mean())
        if zero < 0.01:
            return None
        return (
            f"it reads {100 * found.accuracy:.0f} of 100 fresh images, but for {100 * zero:.0f} of them the right "
            "digit's output is exactly 0. With another seed, it fails."
        )
    none = float((found.answers == 0).all(axis=1).mean())
    if none > 0.1:
        return f"{complaint} For {100 * none:.0f} of 100 images, all ten outputs are exactly 0."
    lacking = 10 - len(set(found.answers.argmax(axis=1).tolist()))
    if lacking:
        return f"{complaint} {lacking} of the ten digits it never answers."
    if not _probabilities(found.answers):
        return f"{complaint} The ten outputs are no probabilities: they are not all positive, or do not sum to 1."
    return complaint


@exercise(
    "08.patient-9",
    hints=[
        "Take a validation image. Is there another copy of the same image among the training images?",
        "Split the thousand images first, then make noisy copies of those for training only.",
    ],
    solution="H, images of the validation data are in the training data: of each image, another noisy copy. Split "
    "before you copy: train on copies of x[:800] and y[:800] alone, and validate on x[800:] and y[800:] as they are.",
)
def patient_9(answer, data):
    """A function: patient 9, its validation repaired (noisy copies on both sides of the split)."""
    found = treated(answer, data, hidden=[128], images=5000)
    own = found.data
    if len(own.x_valid) < 100:
        return f"with {len(own.x_valid)} validation images, luck decides. Keep a hundred at least."
    scale = float(_batch(data.x_test).mean()) / max(float(_batch(own.x_test).mean()), 1e-12)
    train, valid = scale * _batch(own.x_train), scale * _batch(own.x_valid[:2000])
    if any(_originals(images, data.x_test[:2000])[1].mean() > 0.6 for images in (train[::4], valid)):
        return "the test images are in use. They are the clinic's, and must stay fresh; take others."
    (copied, known), (checked, sure) = (_originals(images, data.x_train[:1000]) for images in (train, valid))
    if known.mean() < 0.5:
        return "it hardly trains on the owner's thousand images any more: use them."
    if sure.mean() < 0.6:
        return "the owner has a thousand images, the first ones of x_train, and no others. Validate on some of these."
    shared = float(np.isin(checked[sure], copied[known]).mean())
    answers = np.asarray(found.model(_batch(own.x_valid), training=False)).argmax(axis=1)
    seen = float(np.mean(answers == np.asarray(own.y_valid)))
    if shared > 0.02:
        return (
            f"validation says {100 * seen:.0f} of 100, fresh images say {100 * found.accuracy:.0f}. Of 100 validation "
            f"images, {100 * shared:.0f} have another copy among the training images."
        )
    luck = 3 * math.sqrt(max(found.accuracy * (1 - found.accuracy), 1e-4) / len(own.x_valid))
    if abs(seen - found.accuracy) > max(THRESHOLDS[9], luck):
        return (
            f"validation says {100 * seen:.0f} of 100, fresh images say {100 * found.accuracy:.0f}: more than luck. "
            "Are the validation images treated like those that come in service?"
        )
    return _not_enough(found, 0.75, 0.5)


def _originals(images, originals):
    """Of which original each image is a noisy copy: (n,) its number, (n,) whether it is one at all.

    Noise takes a copy about as far from its own original as from all others, besides what lies between these. So the
    nearest one is clearly nearer than the next.
    """
    a, b = (_batch(x).reshape(len(x), -1) for x in (images, originals))
    squares = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    nearest = np.partition(squares, 1, axis=1)[:, :2]
    return squares.argmin(axis=1), nearest[:, 0] < 0.75 * nearest[:, 1]


@exercise(
    "08.patient-10",
    hints=[
        "Before training, every unit of the first hidden layer answers 0 to every image. What is added to its sum?",
        "The paper puts this bias on the outputs that give the classes, and nowhere else. Which layer is that here?",
    ],
    solution="B, the units are dead: with a bias of -4.6, no image lifts a hidden unit above 0, so it answers 0 and "
    "has no gradient. Leave it out. (In the paper only the last layer has it, with sigmoids. Under a softmax, the same "
    "bias for all classes cancels: it does no harm there, and no good.)",
)
def patient_10(answer, data):
    """A function: patient 10, repaired (a bias that kills ReLUs)."""
    found = treated(answer, data, hidden=[64, 64])
    if not (complaint := _not_enough(found, THRESHOLDS[10], 0.2)):
        return None
    layers = _examined(answer, data)
    if layers is not None and (_hidden(layers, "spread") == 0).any():
        at = int(np.argmax(_hidden(layers, "spread") == 0)) + 1
        return f"{complaint} Before training, hidden layer {at} still puts out the same for every image."
    return complaint


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
}


@exercise(
    "08.causes",
    hints=[
        "Each letter from A to J comes up once. Begin with the patients whose repair was accepted.",
        'solution("08.patient-1") begins with the letter, and so for the others.',
    ],
    solution="1 D, 2 E, 3 C, 4 G, 5 A, 6 I, 7 J, 8 F, 9 H, 10 B.",
)
def causes(answer):
    """The letters of the ten causes: a dict of patient -> (symptom, test, letter)."""
    if not isinstance(answer, dict):
        raise WrongAnswer(f"the answer is the dict `rows`; this is a {type(answer).__name__}.")
    lacking = [n for n in CAUSES if n not in answer]
    if lacking:
        return f"these patients have no row yet: {', '.join(map(str, lacking))}."
    given = {}
    for n in CAUSES:
        row = answer[n]
        if isinstance(row, (tuple, list)) and any(part is ... for part in row):
            raise NotAnswered("not answered yet")
        letter = row if isinstance(row, str) else row[-1] if isinstance(row, (tuple, list)) and len(row) == 3 else None
        if not isinstance(letter, str) or not letter.strip():
            return f"the row of patient {n} is a symptom, a test and a letter, separated by commas."
        given[n] = letter.strip().upper()[:1]
        if given[n] not in CAUSES.values():
            return f"patient {n}: the causes have letters from A to J; this is {letter!r}."
        if not isinstance(row, str) and not all(isinstance(part, str) and part.strip() for part in row):
            return f"the row of patient {n} lacks words: what did you see, and which test settled it?"
    wrong = [n for n in CAUSES if given[n] != CAUSES[n]]
    if not wrong:
        return None
    n = wrong[0]
    nudge = NUDGES.get((n, given[n]), "which measurement speaks for it, and for no other cause?")
    twice = sorted({letter for letter in given.values() if list(given.values()).count(letter) > 1})
    if twice:
        nudge += f" And {', '.join(twice)} comes up more than once; each cause has one patient."
    return f"{10 - len(wrong)} of 10 are right. Patient {n} is not {given[n]}: {nudge}"


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
    counts = [2, 3, 10, 1000]
    right = np.log(np.e + np.array(counts) - 1) - 1
    given = np.array([number(call(answer, n)) for n in counts])
    if np.allclose(given, right, atol=1e-3):
        return None
    if np.allclose(given, np.log(counts), atol=1e-3):
        return "that is the loss of somebody who knows nothing. The floor is what the best answer gets."
    if np.allclose(given, -right, atol=1e-3):
        return "the sign is the wrong way round: a loss is positive."
    if np.allclose(given, np.exp(-right), atol=1e-3):
        return "that is the probability of the right class. The loss is minus its logarithm."
    if np.allclose(given, right[2], atol=1e-3):
        return "that is right for ten classes. Use `classes`."
    if np.allclose(given, np.log(np.e + np.array(counts)) - 1, atol=1e-3):
        return "the right class is not among the others: they are one fewer than `classes`."
    if np.allclose(given, right / np.log(2), atol=1e-3):
        return "that is in bits. Keras uses the natural logarithm."
    if np.allclose(given, 0, atol=1e-3):
        return "a loss of 0 would take a probability of 1, which this softmax cannot give. What is the highest it can?"
    return f"with ten classes it should give 1.461; it gives {given[2]:.4g}."


@exercise(
    "08.patient-11",
    hints=[
        "How large are the pixels that arrive at the first hidden layer? And when you have mended that: which floor?",
        "Each of the two has divided by 255. And two layers in a row make probabilities.",
    ],
    solution="D and E: the pixels are divided by 255 twice, in the data and in the model, and softmax is taken twice. "
    "Leave out one of each.",
)
def patient_11(answer, data):
    """A function: patient 11, repaired (pixels scaled twice, and a softmax of a softmax)."""
    found = treated(answer, data, hidden=[64, 64])
    if (complaint := _not_enough(found, 0.75, 0.2)) and found.accuracy <= 0.2:
        layers = _examined(answer, data)
        if layers is not None and _hidden(layers, "spread")[0] < 0.02:
            return f"{complaint} Before training, there is next to no spread at the first hidden layer."
        return complaint
    right = math.exp(-found.loss) if math.isfinite(found.loss) else 0.0
    if right < THRESHOLDS[11] and math.isfinite(found.loss):
        return (
            f"there is light: it reads {100 * found.accuracy:.0f} of 100 fresh images. But the loss is "
            f"{found.loss:.2f}. Examine it once more, as you would a new patient."
        )
    return complaint
