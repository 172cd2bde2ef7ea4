"""Exercises of lab 01: MLP basics."""

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

prediction("01.softmax", "which validation accuracy does softmax regression reach, from 0 to 1?", low=0, high=1)
prediction("01.raw-minus-scaled", "which accuracy with raw pixels, minus that with scaled ones?", low=-1, high=1)
prediction("01.relu-minus-sigmoid", "which accuracy with ReLU, minus that with the sigmoid?", low=-1, high=1)


number_exercise(
    "01.baseline",
    question="Of 100 screws 90 are good; a program is right for 90. How many more than the laziest baseline?",
    right=0,
    wrong={
        90: "that is what the program gets right. What does the laziest baseline get right?",
        80: "you compared with always answering 'bad'. The lazy baseline picks the more common answer.",
        40: "you compared with tossing a coin. There is a lazier baseline, and a better one.",
        10: "that is how many it gets wrong. Compare what it gets right with the lazy baseline.",
    },
    otherwise="subtract what always answering the more common kind gets right.",
    hints=[
        "What does the laziest program answer to every screw?",
        'It answers "good" every time. For how many of the 100 is that right?',
    ],
    solution="""
answer = 90 - 90
# Always answering "good" is right for 90 of 100 as well: this program's 90% is worth nothing.
""",
)


@exercise(
    "01.weights",
    hints=[
        "There are two Dense layers: pixels to hidden, and hidden to outputs.",
        "Weights: 784 * 60, then 60 * 10. Biases: one for each unit that computes something.",
    ],
    solution="""
answer = (784 * 60 + 60 * 10, 60 + 10)
# 47,640 weights and 70 biases: together 47,710 parameters.
""",
)
def weights(answer):
    """How many weights and how many biases has a 784-60-10 network?"""
    found_weights, found_biases = several(answer, 2)
    if (found_weights, found_biases) == (70, 47_640):
        return Wrong("right numbers, wrong order: the weights come first.")
    complaints = {
        47_710: "that is weights and biases together. Give the weights alone first.",
        47_040: "that is the first layer alone. The output layer has weights too.",
        600: "that is the output layer alone. The hidden layer has weights too.",
        47_100: "that is the hidden layer with its biases. Count the weights of both layers, without biases.",
        470_400: "784 * 60 * 10 multiplies the layers. Count each layer's weights on its own, and add.",
        854: "you added the units. Each unit is connected to every input: multiply.",
        317_600: "that is right for a hidden layer of 400 units. This one has 60.",
    }
    if found_weights != 47_640:
        return Wrong(complaints.get(found_weights, "each layer has inputs times units weights: add the two layers."))
    bias_complaints = {
        60: "the weights are right. The ten outputs have biases too.",
        10: "the weights are right. The hidden units have biases too.",
        854: "the weights are right. Pixels are given, not computed: they have no bias.",
        2: "the weights are right. There is one bias for each unit, not for each layer.",
    }
    if found_biases != 70:
        return Wrong(bias_complaints.get(found_biases, "the weights are right. Each unit that computes has one bias."))
    return Right()


@exercise(
    "01.parameters",
    hints=[
        "Take your sum for 60 hidden units, and write h wherever 60 stood.",
        "784 * h weights and h biases in the hidden layer; h * 10 weights and 10 biases in the output layer.",
    ],
    solution="""
def parameters(hidden):
    return 784 * hidden + hidden + hidden * 10 + 10  # = 795 * hidden + 10
""",
)
def parameters(answer):
    """A function: the number of parameters of a 784-h-10 network."""
    widths = (1, 60, 400)
    given = [number(call(answer, width)) for width in widths]
    at = first_difference(given, [795 * h + 10 for h in widths], rtol=0, atol=0)
    if at is None:
        return Right()
    if len(set(given)) == 1:
        return Wrong(f"it gives {given[0]:,.10g} for every number of hidden units. Use the argument.")
    patterns = {
        lambda h: 794 * h: "that is the number of weights: you left out the biases.",
        lambda h: 785 * h: "that is the hidden layer: the output layer has weights and biases too.",
        lambda h: 795 * h: "you left out the ten biases of the outputs.",
        lambda h: 794 * h + 10: "you left out the biases of the hidden units.",
        lambda h: 794 * h + 11: "each hidden unit has a bias of its own: there are h of them, not one.",
        lambda h: h + 10: "that is the number of biases: you left out the weights.",
        lambda h: 794 * h + 794: "pixels have no bias: count the biases of the hidden units and of the outputs.",
    }
    for formula, complaint in patterns.items():
        if given == [formula(h) for h in widths]:
            return Wrong(complaint)
    return Wrong(f"for h = {widths[at]} it gives {given[at]:,.10g}. Draw that network and count its lines and biases.")


@exercise(
    "01.widths",
    hints=[
        "A 784-h-10 network has 795 h + 10 parameters. Set that equal to the limit, and solve for h.",
        '"At least" rounds up to the next whole unit; "below" rounds down.',
    ],
    solution="""
answer = (378, 62)
# 795 * 378 + 10 = 300,520, but 377 units give 299,725.
# 795 * 62 + 10 = 49,300, but 63 units give 50,095.
""",
)
def widths(answer):
    """The smallest hidden layer with at least 300,000 parameters, and the largest with fewer than 50,000."""
    smallest, largest = several(answer, 2)
    if (smallest, largest) == (62, 378):
        return Wrong("right numbers, wrong order: first the one for at least 300,000.")
    for units in (smallest, largest):
        if units < 1 or units != int(units):
            return Wrong(f"{units:.10g} is no number of units: they come whole. Which whole number keeps the limit?")
    count = {units: f"{795 * int(units) + 10:,}" for units in (smallest, largest)}
    if smallest == 377:
        return Wrong("377 gives 299,725, a little too few: round up for at least.")
    if smallest == 383:
        return Wrong("did you divide by 784? Each hidden unit also has a bias and ten weights to the outputs: 795.")
    if smallest < 378:
        return Wrong(f"{smallest:,.0f} units give {count[smallest]}, fewer than 300,000.")
    if smallest > 378:
        return Wrong(f"{smallest:,.0f} units give {count[smallest]}: enough, but a smaller layer is enough too.")
    if largest == 63:
        return Wrong("the first is right. 63 gives 50,095, a little too many: round down for below.")
    if largest > 62:
        return Wrong(f"the first is right. {largest:,.0f} units give {count[largest]}, which is not below 50,000.")
    if largest < 62:
        return Wrong(f"the first is right. {largest:,.0f} units give {count[largest]}: there is room for more.")
    return Right()


number_exercise(
    "01.step",
    question="By which factor must the first layer's learning rate grow when pixels are divided by 255?",
    right=255**2,
    wrong={
        255: "that makes the weight's step as large as before. But this step then acts through a smaller pixel.",
        1 / 255: "that makes the step smaller still. Smaller pixels need a larger learning rate.",
        1 / 255**2: "right size, but upside down: smaller pixels need a larger learning rate.",
        1: "then a step would change the sums much less than before: the pixels in it have shrunk.",
        2 * 255: "two factors of 255 multiply; they do not add.",
        255 ^ 2: "in Python, ^ is no power: 255^2 gives 253. Powers are written **.",
    },
    otherwise="write the change of a sum as learning rate x pixel x delta x pixel, and shrink both pixels.",
    hints=[
        "The pixel stands in the step twice: once in the gradient, once where the weight acts.",
        "Both pixels are 255 times smaller now. By how much does their product shrink?",
    ],
    solution="""
answer = 255**2
# 65,025: the gradient shrinks by 255, and its effect on the sums by 255 again.
""",
    tolerance=1e-3,
)


@exercise(
    "01.correlation",
    hints=["What shape has that which np.corrcoef returns?", "The number wanted is off the table's diagonal: [0, 1]."],
    solution="answer = np.corrcoef(sizes, means)[0, 1]",
)
def correlation(answer, sizes, means):
    """The correlation coefficient of the networks' sizes and accuracies."""
    true = np.corrcoef(sizes, means)[0, 1]
    if isinstance(answer, (list, np.ndarray)) and np.size(answer) == 4:
        return Wrong("that is the whole table, each with each. Take the entry off the diagonal: [0, 1].")
    value = number(answer)
    if abs(value - true) <= 0.006:
        return Right()
    if math.isclose(value, 1):
        return Wrong("1 is the correlation of something with itself. Take the entry off the diagonal.")
    if abs(value - true**2) <= 0.002:
        return Wrong("that is the squared coefficient. It has lost its sign; the coefficient itself is asked for.")
    if abs(value + true) <= 0.006:
        return Wrong("the size is right, the sign is not: do larger networks read better or worse here?")
    if abs(value - 100 * true) <= 0.6:
        return Wrong("a correlation lies between -1 and 1; that looks like a percentage.")
    if math.isclose(value, np.cov(sizes, means)[0, 1], rel_tol=0.01):
        return Wrong("that is the covariance. Divide by both standard deviations, or use np.corrcoef.")
    return Wrong("that is not it: np.corrcoef(sizes, means) computes it.")


number_exercise(
    "01.deep",
    question="How many parameters has the network 100-512-512-1024-10?",
    right=849_930,
    wrong={
        847_872: "that is the weights alone: add a bias for each unit.",
        2_058: "that is the biases alone: add the weights.",
        840_020: "that is what source D once wrote down. Its own layers add up to something else: add again.",
        839_680: "the output layer has parameters too: 1024 weights and a bias for each digit.",
        1_200_138: "this network has 100 inputs, not 784.",
        587_274: "there are two layers of 512: the second has 512 * 512 weights and its biases.",
    },
    otherwise="inputs * units + units for each of the four layers, then add.",
    hints=[
        "Four layers: 100 to 512, 512 to 512, 512 to 1024, 1024 to 10. Each has inputs * units + units.",
        "The first has 51,712 and the second 262,656. The initialization and the penalty add nothing.",
    ],
    solution="""
answer = (100 * 512 + 512) + (512 * 512 + 512) + (512 * 1024 + 1024) + (1024 * 10 + 10)
# 849,930 = 51,712 + 262,656 + 525,312 + 10,250.
""",
)


@exercise(
    "01.functional",
    hints=[
        "Begin as in the shortcut network, with keras.Input((784,)) and a Dense layer of 32 called on it.",
        "layers.Concatenate()([inputs, hidden]) joins pixels and hidden values. What comes after it?",
    ],
    solution="""
inputs = keras.Input((784,))
hidden = layers.Dense(32, activation="relu")(inputs)
joined = layers.Concatenate()([inputs, hidden])
outputs = layers.Dense(10, activation="softmax")(joined)
model = keras.Model(inputs, outputs)
""",
)
def functional(answer):
    """A network whose output layer sees the pixels and 32 hidden ReLU units."""
    import keras

    if not isinstance(answer, keras.Model):
        made = "function" if callable(answer) else type(answer).__name__
        return Wrong(f"the answer is a Keras model, made by keras.Model(inputs, outputs); this is a {made}.")
    images = np.random.default_rng(1).random((50, 784), dtype="float32")
    shape = _outputs(answer, images).shape
    if shape != (50, 10):
        return Wrong(f"for 50 images, ten outputs each are wanted; this model gives an array of shape {shape}.")
    shapes = [kernel.shape for kernel in answer.get_weights()]
    if sorted(shapes) != sorted(PARTS):
        sees = [shape[0] for shape in shapes if len(shape) == 2 and shape[1] == 10]
        if sees == [32]:
            return Wrong("its output layer sees the 32 hidden values alone: join the pixels to them.")
        if len(sees) == 1 and sees != [816]:
            return Wrong(f"its output layer sees {sees[0]} numbers; 784 pixels and 32 hidden values make 816.")
        return Wrong(f"it has {answer.count_params():,} parameters; one hidden layer of 32 gives 33,290.")
    # Weights of our own, so that what it computes shows, however small those are with which it begins.
    outputs, parts = _with_other_weights(answer, images, shapes)
    if _is_such(outputs, images, parts, lambda z: np.maximum(z, 0)):
        return Right()
    if not (outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)):
        return Wrong("the ten outputs are not probabilities, at least 0 and adding up to 1. Softmax makes them so.")
    for name in ("linear", "sigmoid", "tanh", "softmax", "elu", "gelu", "leaky_relu", "silu", "softplus", "relu6"):
        activation = keras.activations.get(name)
        if _is_such(outputs, images, parts, lambda z, f=activation: keras.ops.convert_to_numpy(f(z))):
            return Wrong(f"its hidden layer has the activation {name}; ReLU is asked for, max(0, z).")
    return Wrong("it has the right layers, but does not compute softmax of pixels and max(0, z), joined and weighted.")


PARTS = ((784, 32), (32,), (816, 10), (10,))  # what a network of exercise 1.8 learns: the shapes of its arrays


def _outputs(model, images):
    """What a network gives for images (n, 784), however it lists or names its inputs and outputs."""
    import keras

    try:
        inputs = model.input
    except (AttributeError, ValueError):  # a subclass has none
        inputs = None
    if len(keras.tree.flatten(inputs)) > 1:
        raise WrongAnswer("one input of 784 pixels is wanted; this model has several.")
    for one in keras.tree.flatten(inputs) if inputs is not None else []:
        if tuple(one.shape) != (None, 784):
            raise WrongAnswer(f"one input of 784 pixels is wanted; this model's input has shape {tuple(one.shape)}.")
    given = images if inputs is None else keras.tree.map_structure(lambda _: images, inputs)
    try:
        outputs = keras.tree.flatten(model(given))
        return keras.ops.convert_to_numpy(outputs[0]) if len(outputs) == 1 else np.empty(0)
    except Exception as error:
        raise WrongAnswer(f"called on images of 784 pixels, it stopped with {type(error).__name__}.") from None


def _with_other_weights(model, images, shapes):
    """Its outputs with random weights in place of its own, and these weights by their shapes."""
    random, own = np.random.default_rng(2), model.get_weights()
    scale = {(784, 32): 0.3, (32,): 0.3, (816, 10): 0.05, (10,): 0.3}
    parts = {shape: random.normal(0, scale[shape], shape).astype("float32") for shape in PARTS}
    try:
        model.set_weights([parts[shape] for shape in shapes])
        return _outputs(model, images), parts
    finally:
        model.set_weights(own)


def _is_such(outputs, images, parts, activation):
    """Whether these are the outputs of softmax over pixels and hidden units, joined in either order."""
    kernel, bias, last_kernel, last_bias = (parts[shape] for shape in PARTS)
    hidden = activation(images @ kernel + bias)
    for joined in ([images, hidden], [hidden, images]):
        powers = np.exp(np.concatenate(joined, axis=1) @ last_kernel + last_bias)
        if np.allclose(outputs, powers / powers.sum(axis=1, keepdims=True), rtol=0, atol=2e-3):
            return True
    return False


@exercise(
    "01.standard-error",
    hints=["Multiply p by what is missing to 1, then divide by n.", "The root, np.sqrt, goes over the whole fraction."],
    solution="""
def standard_error(p, n):
    return np.sqrt(p * (1 - p) / n)
""",
)
def standard_error(answer):
    """A function: the standard error of an accuracy p on n images."""
    cases = ((0.9, 100), (0.98, 10_000), (0.6, 25))  # p * n is whole, for those who make n zeros and ones
    given = [number(call(answer, p, n)) for p, n in cases]

    def difference(formula):
        return first_difference(given, [formula(p, n) for p, n in cases], atol=0)

    def right(p, n):
        return math.sqrt(p * (1 - p) / n)

    at = difference(right)
    if at is None:
        return Right()
    patterns = {
        lambda p, n: p * (1 - p) / n: "that is its square, the variance: take the root.",
        lambda p, n: math.sqrt(p * (1 - p)) / n: "n belongs under the root.",
        lambda p, n: math.sqrt(p * (1 - p)): "that is the spread of a single image. Divide by n under the root.",
        lambda p, n: 1.96 * right(p, n): (
            "that is half the width of the 95% interval. The standard error comes without the 1.96."
        ),
        lambda p, n: math.sqrt(p / n): (
            "you left out the factor 1 - p: a network that is always right would have no luck to fear."
        ),
        lambda p, n: math.sqrt(0.1 * p / n): "1 - p is 0.1 only where p is 0.9: compute it from the argument.",
        lambda p, n: math.sqrt(p * (1 - p) / (n - 1)): "divide by n; n - 1 is for a spread estimated from the data.",
        lambda p, n: 100 * right(p, n): "that is in percentage points; keep p and its error both as fractions.",
    }
    for formula, complaint in patterns.items():
        if difference(formula) is None:
            return Wrong(complaint)
    p, n = cases[at]
    said, true = apart(given[at], right(p, n))
    return Wrong(f"for p = {p} and n = {n:,} it gives {said}; by the formula it is {true}.")


@exercise(
    "01.three",
    hints=[
        "final_model.evaluate(x_train, y_train, verbose=0) returns the loss and the accuracy.",
        "Take the second of the two, for each of the three sets, in the order train, validation, test.",
    ],
    solution="""
answer = tuple(
    final_model.evaluate(x, y, verbose=0)[1]
    for x, y in ((x_train, y_train), (x_valid, y_valid), (x_test, y_test))
)
""",
)
def three(answer, model, data):
    """The model's accuracy on training, validation and test images."""
    if isinstance(answer, (list, tuple)) and any(isinstance(part, (list, tuple)) and len(part) == 2 for part in answer):
        return Wrong("three accuracies are wanted, not pairs: evaluate gives loss and accuracy; take the second, [1].")
    given = several(answer, 3)
    if all(50 < value <= 100 for value in given):
        return Wrong("give fractions between 0 and 1, not percentages.")
    sets = ((data.x_train, data.y_train), (data.x_valid, data.y_valid), (data.x_test, data.y_test))
    losses, true = zip(*(model.evaluate(x, y, verbose=0)[:2] for x, y in sets), strict=True)
    if np.allclose(given, true, rtol=0, atol=6e-4):
        return Right()
    if np.allclose(given, losses, rtol=0, atol=6e-4):
        return Wrong("these are the losses: evaluate returns the loss first, then the accuracy.")
    if np.allclose(sorted(given), sorted(true), rtol=0, atol=6e-4):
        return Wrong("right numbers, wrong order: train, validation, test.")
    if np.allclose(given, [1 - value for value in true], rtol=0, atol=6e-4):
        return Wrong("these are the shares of mistakes. Accuracy is what is left.")
    names = ("training", "validation", "test")
    off = first_difference(given, true, rtol=0, atol=6e-4)
    if off == 0 and np.allclose(given[1:], true[1:], rtol=0, atol=6e-4):
        return Wrong("validation and test are right. Is the first the history's, an average over the epoch? Evaluate.")
    if np.allclose(given, true, rtol=0, atol=6e-3):
        return Wrong("close: give at least four decimals, or the numbers as evaluate returns them.")
    return Wrong(f"the {names[off]} accuracy is not {given[off]:.4f}: evaluate final_model on the {names[off]} images.")


@exercise(
    "01.epoch-time",
    hints=["391/391 counts steps. What does 2ms/step say?", "391 steps of 2 thousandths of a second each."],
    solution="""
answer = 391 * 0.002
# About 0.8 s, which the line itself rounds to 1s. The 2 ms are one step, not the epoch.
""",
)
def epoch_time(answer):
    """An epoch of 391 steps at 2 ms per step: how many seconds?"""
    value = number(answer)
    if abs(value - 0.782) <= 0.02 or value == 1:  # the line rounds it to 1s
        return Right()
    if math.isclose(value, 0.002):
        return Wrong("that is one step. An epoch has 391 of them.")
    if value == 2:
        return Wrong("2 ms is the time of a step, and in milliseconds.")
    if abs(value - 782) <= 20 or value == 1000:
        return Wrong("that is in milliseconds. In seconds?")
    if value == 391:
        return Wrong("that is the number of steps. How long does each take?")
    if math.isclose(value, 0.002 * 128, rel_tol=0.02):
        return Wrong("a step takes 2 ms with all of its images; do not multiply by the batch.")
    if 0.5 <= value <= 1.3:
        return Wrong("that is the right size. Take the numbers of the line: so many steps, of 2 ms each.")
    return Wrong("multiply the number of steps by the time that one takes.")
