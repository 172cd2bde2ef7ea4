"""Exercises of lab 04: why deep networks fail, and what mends them."""

import math

import numpy as np

from labkit.exercises.core import WrongAnswer, call, exercise, number, number_exercise, prediction, several

prediction("04.eleven-layers", "which validation accuracy, from 0 to 1?", low=0, high=1)
prediction("04.sufficient", "how many of the fourteen changes suffice, from 0 to 14?", low=0, high=14)


@exercise(
    "04.parameters",
    hints=[
        "A Dense layer has a weight for each pair of input and unit, and a bias for each unit.",
        "With width w: 784 * w + w for the first, ten times w * w + w, and w * 10 + 10 for the output.",
    ],
    solution="(8065, 63465, 177715): 784 * w + w + 10 * (w * w + w) + w * 10 + 10 for w = 9, 49 and 99.",
)
def parameters(answer):
    """How many parameters have eleven hidden layers of 9, 49 and 99 units, with 784 inputs and 10 outputs?"""
    given = several(answer, 3)

    def counts(formula):
        return given == [formula(width) for width in (9, 49, 99)]

    if counts(lambda w: 784 * w + w + 10 * (w * w + w) + w * 10 + 10):
        return None
    if sorted(given) == [8065, 63465, 177715]:
        return "right numbers, wrong order: first 9 units, then 49, then 99."
    if counts(lambda w: 784 * w + 10 * w * w + w * 10):
        return "you counted the weights. Each unit has a bias, too, also in the output layer."
    if counts(lambda w: 784 * w + w + 10 * (w * w + w)):
        return "the output layer is missing: it has parameters as well."
    if counts(lambda w: 784 * w + w + 11 * (w * w + w) + w * 10 + 10):
        return "the first of the eleven hidden layers has 784 inputs, so ten layers are left between hidden ones."
    if counts(lambda w: 784 * w + w + 9 * (w * w + w) + w * 10 + 10):
        return "between eleven hidden layers there are ten steps, not nine."
    wrong = next(w for w, value in zip((9, 49, 99), given, strict=True) if value != 10 * w * w + 805 * w + 10)
    return f"the number for {wrong} units is wrong: add up input to hidden, ten times hidden to hidden, and the output."


@exercise(
    "04.constant-class",
    hints=["Print `answers[:20]`, or count with np.bincount(answers).", "All of them are the same digit: answers[0]."],
    solution="answers[0]. On MNIST it is most often the 1, the most common digit.",
)
def constant_class(answer, answers):
    """Which digit does the network always answer? answers: (n,) digits."""
    value = number(answer)
    digit = int(np.bincount(np.asarray(answers)).argmax())
    if value == digit:
        return None
    if value != int(value) or not 0 <= value <= 9:
        return "the answer is a digit, from 0 to 9."
    if value == 1:
        return "the 1 is common, on MNIST the most common: a good guess. But look into `answers`: here it is another."
    return f"the network never answers {value:g}. Look into `answers`, and not into the labels."


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
    solution="-(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)) = 1.5 ln 2 = 1.0397.",
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
    cases = [[0, 1] * 4, [0, 0, 1, 2], [3] * 5, [0, 5, 5, 9, 9, 9, 9, 1], list(range(10)) * 3]
    counts = [np.bincount(labels)[np.unique(labels)] / len(labels) for labels in cases]  # without empty classes
    right = [float(-(p * np.log(p)).sum()) for p in counts]
    given = [number(call(answer, np.array(labels))) for labels in cases]
    if np.allclose(given, right, rtol=1e-4, atol=1e-6):
        return None
    if np.isnan(given).any():
        return f"for the labels {cases[3]} it gives nan: 0 times the logarithm of 0. Leave out labels that never occur."
    if np.allclose(given, -np.array(right), rtol=1e-4, atol=1e-6):
        return "the sign is the wrong way round: a loss is positive."
    if np.allclose(given, np.array(right) / math.log(2), rtol=1e-4, atol=1e-6):
        return "that is in bits. Keras uses the natural logarithm, np.log."
    if np.allclose(given, [math.log(len(p)) for p in counts], rtol=1e-4, atol=1e-6):
        return "that is the loss of equal shares. The labels [0, 0, 1, 2] have not."
    if np.allclose(given, np.log(10)):
        return "that is ln 10, whatever the labels. Use their shares."
    if np.allclose(given, [p.max() for p in counts]):
        return "that is the accuracy of always answering the most common label. The question is the loss."
    if np.allclose(given, [-math.log(p.max()) for p in counts], rtol=1e-4, atol=1e-6):
        return "that is the loss on the most common label alone. Weigh all labels by their shares."
    return f"for the labels {cases[1]} it gives {given[1]:g}; its shares are 1/2, 1/4, 1/4, so it is {right[1]:.4f}."


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
    solution="5, because 4 ** 5 = 1024: eleven layers are far more than it takes.",
    tolerance=1e-3,
)

number_exercise(
    "04.gain",
    question="By which factor must Glorot's weights be multiplied, for a sigmoid layer near 0 to pass on all?",
    right=4,
    wrong={
        16: "that is the factor for the variance. The weights themselves need its square root.",
        2: "twice the weights double the spread; a quarter would become a half.",
        0.25: "that makes it worse: a quarter of a quarter. The loss of a quarter is to be undone.",
        8: "weights eight times as large pass on twice what they get: it would grow from layer to layer.",
        1: "with a factor of 1, a quarter is passed on. What undoes it?",
    },
    otherwise="the weights pass on 1, the slope a quarter. Which factor on the weights brings the product to 1?",
    hints=["Weights times g make z vary g times as much.", "g * 1/4 = 1."],
    solution="4. The standard deviation of the weights times 4, which is their variance times 16.",
)

number_exercise(
    "04.relu",
    question="Which Var(w), as a multiple of 1/n, lets a ReLU layer pass on the square of what it gets?",
    right=2,
    wrong={
        1: "with 1/n, z varies as much as the input. But then ReLU sets half of it to 0.",
        4: "that is for a slope of one half everywhere, whose square is a quarter. Here half of the squares are lost.",
        0.5: "the wrong way round: ReLU loses one half, so the weights have to give more, not less.",
        math.sqrt(2): "that is the factor for the weights. Variance goes with the square.",
        16: "that belongs to the sigmoid, whose slope is a quarter.",
    },
    otherwise="ReLU keeps z for half of the units, 0 for the rest. Which part of the mean of z squared is left?",
    hints=["The mean of relu(z) squared is half of the mean of z squared.", "n * Var(w) * 1/2 = 1."],
    solution="2: Var(w) = 2 / n. It is what He et al. (2015) found, and Keras calls he_normal or he_uniform.",
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
        return "this is a network; give the function that builds one, by its name and without parentheses."
    keras.utils.set_random_seed(2024)  # not the lab's: it has to work with another seed, too
    model, other = call(answer), call(answer)
    if not isinstance(model, keras.Model):
        return f"the function returns a {type(model).__name__}, not a Keras model."
    if model is other:
        return "the function returns the same network each time. Build a new one inside it."
    if model.output_shape != (None, 10) or model.input_shape != (None, 784):
        return (
            f"the network takes inputs of shape {model.input_shape} and gives outputs of shape {model.output_shape}; "
            "it should be (None, 784) and (None, 10)."
        )
    hidden = sum(isinstance(layer, keras.layers.Dense) for layer in model.layers) - 1
    if hidden < 3:
        return f"it has {hidden} hidden Dense layer{'' if hidden == 1 else 's'}; at least 3 are asked for."
    if not getattr(model, "optimizer", None) or not getattr(model, "loss", None):
        return "the network has not been compiled: call its compile before you return it."
    if _is_linear(model, data.x_train[:100]):
        return "without activations, stacked layers are one linear layer: give each hidden layer one."
    model.steps_per_execution = 64
    try:
        model.fit(data.x_train, data.y_train, batch_size=128, epochs=10, verbose=0)
    except Exception as error:
        raise WrongAnswer(
            f"training it stopped with {type(error).__name__}. The labels are whole numbers, for which the loss is "
            "sparse_categorical_crossentropy."
        ) from None
    read = model.predict(data.x_valid, batch_size=1000, verbose=0).argmax(axis=1)
    accuracy, majority = np.mean(read == data.y_valid), np.bincount(data.y_valid).max() / len(data.y_valid)
    if accuracy < majority + 0.05:
        return f"built anew and trained, it is right on {accuracy:.1%}: it answers all images alike, as in this lab."
    if accuracy <= 0.92:
        return f"built anew and trained for ten epochs, it is right on {accuracy:.1%} of new images; get over 92%."


def _is_linear(model, x):
    """Whether the logarithms of the answers' ratios are straight lines in x, as without any activation."""

    def ratios(x):
        logs = np.log(model.predict(x, verbose=0) + 1e-30)
        return logs - logs[:, :1]

    a, b = 5 * x[::2], -5 * x[1::2]  # far apart, so that a curve shows
    straight = (ratios(a) + ratios(b)) / 2
    return np.abs(ratios((a + b) / 2) - straight).max() < 0.01 * np.ptp(straight, axis=0).max()
