"""Exercises of lab 04: why deep networks fail, and what mends them."""

import contextlib
import math

import numpy as np

from labkit.exercises.core import (
    Right,
    Wrong,
    WrongAnswer,
    apart,
    call,
    exercise,
    first_difference,
    number,
    number_exercise,
    prediction,
    several,
)

prediction("04.eleven-layers", "which validation accuracy, from 0 to 1?", low=0, high=1)
prediction("04.sufficient", "how many of the fourteen changes suffice, from 0 to 14?", low=0, high=14)
prediction("04.unseen", "how many of the three get over four fifths with every seed, from 0 to 3?", low=0, high=3)


@exercise(
    "04.parameters",
    hints=[
        "A Dense layer has a weight for each pair of input and unit, and a bias for each unit.",
        "With width w: 784 * w + w for the first, ten times w * w + w, and w * 10 + 10 for the output.",
    ],
    solution="""
def parameters(width):
    first, between, output = 784 * width + width, width * width + width, width * 10 + 10
    return first + 10 * between + output


answer = parameters(9), parameters(49), parameters(99)
""",
)
def parameters(answer):
    """How many parameters have eleven hidden layers of 9, 49 and 99 units, with 784 inputs and 10 outputs?"""
    given = several(answer, 3)
    right = [784 * w + w + 10 * (w * w + w) + w * 10 + 10 for w in (9, 49, 99)]

    def counts(formula):
        return given == [formula(width) for width in (9, 49, 99)]

    if given == right:
        return Right()
    if sorted(given) == right:
        return Wrong("right numbers, wrong order: first 9 units, then 49, then 99.")
    if counts(lambda w: 784 * w + 10 * w * w + w * 10):
        return Wrong("you counted the weights. Each unit has a bias, too, also in the output layer.")
    if counts(lambda w: 784 * w + w + 10 * (w * w + w)):
        return Wrong("the output layer is missing: it has parameters as well.")
    if counts(lambda w: 784 * w + w + 11 * (w * w + w) + w * 10 + 10):
        return Wrong(
            "the first of the eleven hidden layers has 784 inputs, so ten layers are left between hidden ones."
        )
    if counts(lambda w: 784 * w + w + 9 * (w * w + w) + w * 10 + 10):
        return Wrong("between eleven hidden layers there are ten steps, not nine.")
    wrong = (9, 49, 99)[first_difference(given, right, rtol=0, atol=0)]
    return Wrong(
        f"the number for {wrong} units is wrong: add up input to hidden, ten times hidden to hidden, and the output."
    )


@exercise(
    "04.constant-class",
    hints=["Print `answers[:20]`, or count with np.bincount(answers).", "All of them are the same digit: answers[0]."],
    solution="answer = answers[0]  # on MNIST it is most often the 1, the most common digit",
)
def constant_class(answer, answers):
    """Which digit does the network always answer? answers: (n,) digits."""
    value = number(answer)
    counts = np.bincount(np.asarray(answers), minlength=10)
    if value == int(counts.argmax()):
        return Right()
    if value != int(value) or not 0 <= value <= 9:
        return Wrong("the answer is a digit, from 0 to 9.")
    if counts[int(value)]:
        return Wrong(f"the network answers {value:g} at times, but another digit more often. Count them.")
    if value == 1:
        return Wrong(
            "the 1 is common, on MNIST the most common: a good guess. But look into `answers`: here it is another."
        )
    return Wrong(f"the network never answers {value:g}. Look into `answers`, and not into the labels.")


number_exercise(
    "04.entropy",
    question="The lowest loss of a constant answer, for shares of 1/2, 1/4 and 1/4.",
    right=1.5 * math.log(2),
    wrong={
        math.log(3): "that is ln 3, for three equal shares. These are not equal.",
        1.5: "that is the entropy in bits. Keras uses the natural logarithm, so the unit is the nat.",
        -1.5 * math.log(2): "the logarithms of shares are negative; a minus sign in front makes the entropy positive.",
        math.log(2): "that is the loss on cats alone. Dogs and birds come in, too, each with its share.",
        0.5: "that is the accuracy of always saying cat. The question is the loss.",
        1.5 * math.log10(2): "that is with logarithms to the base 10. Keras uses the natural one.",
        5 * math.log(2): "weigh each logarithm with its share before you add.",
    },
    otherwise="add up share times natural logarithm of the share, with a minus sign in front.",
    hints=[
        "The best constant answer is the shares themselves. What is its mean cross-entropy?",
        "-(0.5 * ln 0.5 + 0.25 * ln 0.25 + 0.25 * ln 0.25)",
    ],
    solution="answer = -(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25))  # 1.5 ln 2",
    tolerance=1e-3,
)


@exercise(
    "04.constant-loss",
    hints=[
        "np.bincount(labels) counts each label; divided by their number, these are the shares.",
        "A label that never occurs has the share 0, whose logarithm is not finite. Leave these out.",
    ],
    solution="""
def constant_loss(labels):
    shares = np.bincount(labels) / len(labels)
    shares = shares[shares > 0]
    return -(shares * np.log(shares)).sum()
""",
)
def constant_loss(answer):
    """A function: the lowest cross-entropy that a constant answer reaches on these labels."""
    cases = [[0, 0, 1, 2], [0, 1] * 4, [3] * 5, [0, 5, 5, 9, 9, 9, 9, 1], list(range(10)) * 3]
    counts = [np.bincount(labels)[np.unique(labels)] / len(labels) for labels in cases]  # without empty classes
    right = [float(-(p * np.log(p)).sum()) for p in counts]
    given = [number(call(answer, np.array(labels)), finite=False) for labels in cases]
    wrong = first_difference(given, right)
    if wrong is None:
        return Right()

    def are(others):
        return first_difference(given, others) is None

    labels, shares = cases[wrong], counts[wrong]
    if not math.isfinite(given[wrong]):
        return Wrong(
            f"for the labels {labels} it gives {given[wrong]:g}. A share of 0 has no finite logarithm: leave out "
            "labels that never occur."
        )
    if are([-loss for loss in right]):
        return Wrong("the sign is the wrong way round: a loss is positive.")
    if are([loss / math.log(2) for loss in right]):
        return Wrong("that is in bits. Keras uses the natural logarithm, np.log.")
    if are([loss / math.log(10) for loss in right]):
        return Wrong("that is with logarithms to the base 10. Keras uses the natural one, np.log.")
    if are([math.log(len(p)) for p in counts]):
        return Wrong("that is the loss of equal shares. The labels [0, 0, 1, 2] have not.")
    if are([math.log(10)] * len(cases)):
        return Wrong("that is ln 10, whatever the labels. Use their shares.")
    if are([p.max() for p in counts]):
        return Wrong("that is the accuracy of always answering the most common label. The question is the loss.")
    if are([-math.log(p.max()) for p in counts]):
        return Wrong("that is the loss on the most common label alone. Weigh all labels by their shares.")
    gives, is_right = apart(given[wrong], right[wrong])
    named = ", ".join(f"{share:.3g}" for share in shares)
    return Wrong(f"for the labels {labels} it gives {gives}; the shares are {named}, so it is {is_right}.")


number_exercise(
    "04.layers",
    question="After how many layers, each of which passes on a quarter, is less than a thousandth left?",
    right=5,
    wrong={
        4: "after four layers, 1/256 is left; that is more than a thousandth.",
        6: "that is safely enough. But one layer earlier, it is less than a thousandth already.",
        10: "ten layers would do with a factor of one half. Here it is a quarter.",
        250: "the quarters multiply; they do not add up.",
        3: "with a factor of a tenth, three layers would give exactly a thousandth. Here it is a quarter.",
        4.982892142331043: "that is where a thousandth is reached. Layers are whole: how many are needed?",
    },
    otherwise="1/4, 1/16, 1/64, ...: at which power is it below 1/1000?",
    hints=["After two layers, a quarter of a quarter is left: 1/16.", "4 to the power of 5 is 1024."],
    solution="answer = 5  # 4 ** 5 = 1024. How much a network needs in order to learn is another question",
    tolerance=1e-3,
)

_AT_TWO = 1 / (1 + math.exp(-2))  # the sigmoid of 2

number_exercise(
    "04.gain",
    question="By which factor must Glorot's weights be multiplied, for a sigmoid layer with z near 2 to pass on all?",
    right=1 / (_AT_TWO * (1 - _AT_TWO)),
    wrong={
        4: "that is for z close to 0, where the slope is a quarter. Around 2 the sigmoid is flatter.",
        _AT_TWO * (1 - _AT_TWO): "that is the part that a layer passes on. Which factor undoes it?",
        (_AT_TWO * (1 - _AT_TWO)) ** -2: "that is the factor for the variance. The weights need its square root.",
        (_AT_TWO * (1 - _AT_TWO)) ** -0.5: "no root here: weights g times as large make z vary g times as much.",
        1 / _AT_TWO: "that undoes the value of the sigmoid at 2. What counts is its slope there.",
        1 / (1 - _AT_TWO): "1 minus the sigmoid is only a part of the slope, which is sigmoid times (1 - sigmoid).",
        _AT_TWO: "that is the value of the sigmoid at 2. What counts is its slope there, and what undoes it.",
        math.cosh(2) ** 2: "that is for the slope of tanh.",
        1: "Glorot's weights alone pass on the slope at 2, which is far below 1. What undoes it?",
    },
    otherwise="the weights pass on 1, the activation its slope at 2. Which factor brings the product to 1?",
    hints=[
        "The slope of the sigmoid at z is sigmoid(z) * (1 - sigmoid(z)); `slope` from above computes it.",
        "g * slope(2) = 1.",
    ],
    solution="answer = 1 / slope(2)  # weights g times as large make z vary g times as much, and g * slope(2) = 1",
    tolerance=5e-3,
)

number_exercise(
    "04.relu",
    question="Which Var(w), as a multiple of 1/n, makes up for what leaky ReLU with slopes 1 and 1/2 loses?",
    right=1.6,
    wrong={
        2: "that is for ReLU, which keeps half of the square. Leaky ReLU keeps a bit of the other half, too.",
        0.625: "the wrong way round: that is the part of the square that is left. The weights have to make up for it.",
        4 / 3: "squares: where z is halved, its square is quartered. You have averaged the slopes.",
        16 / 9: "the square of the mean slope is not the mean of the squared slopes.",
        1.6**0.5: "that is the factor for the weights. Variance goes with the square.",
        1: "with 1/n, z varies as much as the input. But then leaky ReLU halves half of it.",
        4: "that would be for a slope of one half everywhere. Here it is 1 for half of the units.",
        0.8: "each slope is that of half of the units only: 1/2 * 1 + 1/2 * 1/4, and not 1 + 1/4.",
    },
    otherwise="which part of the mean of z squared is left, if half of the units keep z, and the others keep z / 2?",
    hints=[
        "Half of the units keep z squared. The others keep (z / 2) squared. What is the mean of both?",
        "c * (1/2 + 1/2 * 1/4) = 1.",
    ],
    solution="answer = 1 / (0.5 * 1 + 0.5 * 0.25)  # half of the units keep the square, the others a quarter of it",
    tolerance=1e-3,
)


@exercise(
    "04.deep-network",
    hints=[
        "Take sigmoid_stack, and make one of the changes that the study found sufficient. Do not forget compile.",
        "Three hidden layers of 128 units with ReLU and Adam are more than enough.",
    ],
    solution="""
def deep_network():
    model = keras.Sequential([keras.Input((784,))])
    for i in (1, 2, 3, 4):
        model.add(layers.Dense(128, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}"))
    model.add(layers.Dense(10, activation="softmax", name="digit"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
""",
)
def deep_network(answer, data):
    """A function that returns a compiled network, at least three hidden layers, over 92% right after ten epochs.

    data: labkit.data.Dataset with flat images and labels as whole numbers.
    """
    import keras

    if isinstance(answer, keras.Model):
        return Wrong("this is a network; give the function that builds one, by its name and without parentheses.")
    keras.utils.set_random_seed(2024)  # not the lab's: it has to work with another seed, too
    model, other = call(answer), call(answer)
    if not isinstance(model, keras.Model):
        return Wrong(f"the function returns a {type(model).__name__}, not a Keras model.")
    if model is other:
        return Wrong("the function returns the same network each time. Build a new one inside it.")
    _refuse_other_shapes(model, data.x_train)
    if {id(v) for v in model.trainable_variables} & {id(v) for v in getattr(other, "trainable_variables", [])}:
        return Wrong("the networks that it returns share their layers. Make these, too, anew inside the function.")
    hidden, bent = _hidden_layers(model, data.x_train[:1])
    if hidden < 3:
        return Wrong(f"it has {hidden} hidden Dense layer{'' if hidden == 1 else 's'}; at least 3 are asked for.")
    if not getattr(model, "compiled", False):
        return Wrong("the network has not been compiled: call its compile before you return it.")
    if not bent:
        return Wrong("without activations, stacked layers are one linear layer: give each hidden layer one.")
    if bent < 3:
        return Wrong(
            f"of its {hidden} hidden layers, only {bent} {'has' if bent == 1 else 'have'} an activation before the "
            "next one. Without it, two layers are one linear layer: give at least 3 layers one."
        )
    majority = np.bincount(data.y_valid).max() / len(data.y_valid)
    best = 0.0
    for seed in (2024, 2025, 2026):  # one unlucky start is no reason to reject a network
        keras.utils.set_random_seed(seed)
        best = max(best, _trained_accuracy(call(answer), data))
        if best > 0.92:
            return Right()
    if best < majority + 0.05:
        return Wrong(
            f"built anew and trained, three times, it is right on {best:.1%} at best: it answers all images alike, as "
            "in this lab."
        )
    return Wrong(
        f"built anew and trained for ten epochs, three times, it is right on {apart(100 * best, 92.0)[0]}% of new "
        "images at best; get over 92%."
    )


def _refuse_other_shapes(model, x):
    """Build the model by calling it. Raises WrongAnswer if it does not make (n, 10) of (n, 784)."""
    try:
        given = model(x[:2], training=False)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WrongAnswer(f"it does not take images of shape (n, 784): {first[:200]}") from None
    shape = getattr(given, "shape", None)
    if shape is None:
        raise WrongAnswer(f"it gives a {type(given).__name__}, not one output of shape (n, 10).")
    if tuple(shape) != (2, 10):
        raise WrongAnswer(f"for n images its outputs have shape (n, {', '.join(map(str, shape[1:]))}), not (n, 10).")


def _layers_within(model):
    """All layers of a model, also of the models inside of it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers_within(layer)


def _trained_accuracy(model, data):
    """The share of validation images that the model has right after ten epochs."""
    if all(getattr(model, f"{part}_function", None) is None for part in ("train", "test", "predict")):
        model.steps_per_execution = 64  # before it has made a function of its own: Keras would keep that one
    try:
        model.fit(data.x_train, data.y_train, batch_size=128, epochs=10, verbose=0)
        answers = np.asarray(model.predict(data.x_valid, batch_size=1000, verbose=0))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")
        loss = getattr(model, "loss", None)
        name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
        more = "" if "sparse" in name else " The labels are whole numbers: sparse_categorical_crossentropy takes these."
        raise WrongAnswer(f"training it stopped with {type(error).__name__}: {first}.{more}") from None
    if not np.isfinite(answers).all():
        raise WrongAnswer("its answers became NaN or infinite while it was trained: its steps are too large.")
    return float(np.mean(answers.argmax(axis=1) == data.y_valid))


def _hidden_layers(model, x):
    """How many hidden Dense layers a model has, and after how many of these something bends before the next one.

    x: (1, 784), an image that goes through the model. Where it cannot be followed, all layers count as bent.
    """
    import keras

    dense = [layer for layer in _layers_within(model) if isinstance(layer, keras.layers.Dense)]
    hidden = max(0, len(dense) - 1)
    try:
        return hidden, sum(_bends(model, layer, dense, x) for layer in dense)
    except Exception:
        return hidden, hidden


def _bends(model, layer, dense, x):
    """Whether what reaches the next Dense layer is not linear in what this one computes before its activation.

    False for the last one. Three images go through the model, alike until this layer. There it is given three points
    on a straight line instead, and what the next Dense layer gets of them lies on one, too, or does not.
    """
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(1)
    a, b = 4 * rng.normal(size=(2, layer.units))  # far apart, so that a curve shows
    line = tf.constant([a, (a + b) / 2, b], dtype="float32")
    given = []  # what each Dense layer after this one gets

    def replaced(inputs, *args, **kwargs):
        if len(inputs.shape) != 2:
            raise NotImplementedError
        given.clear()
        return layer.activation(line) if layer.activation else line

    def noted(call):
        def noting(inputs, *args, **kwargs):
            given.append(np.asarray(inputs))
            return call(inputs, *args, **kwargs)

        return noting

    others = {one: noted(one.call) for one in dense if one is not layer}
    with _instead({**others, layer: replaced}):
        model(keras.ops.convert_to_tensor(np.repeat(x, 3, axis=0)), training=False)
    for first, middle, last in (array for array in given if np.ptp(array, axis=0).max() > 1e-6):
        return bool(np.abs((first + last) / 2 - middle).max() > 1e-3 * np.abs(first - last).max())
    return False


@contextlib.contextmanager
def _instead(calls):
    """Let layers be called otherwise in here. calls: dict of layer -> function.

    Attributes of the layers stand for their methods. They bypass Keras, which would track them.
    """
    before = {layer: vars(layer).get("call") for layer in calls}
    try:
        for layer, function in calls.items():
            vars(layer)["call"] = function
        yield
    finally:
        for layer, original in before.items():
            if original is None:
                vars(layer).pop("call", None)
            else:
                vars(layer)["call"] = original
