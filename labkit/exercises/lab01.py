"""Exercises of lab 01: MLP basics."""

import math

import numpy as np

from labkit.exercises.core import call, exercise, number, number_exercise, prediction, several

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
    solution='0. Always answering "good" is right for 90 of 100 as well: this program\'s 90% is worth nothing.',
)


@exercise(
    "01.weights",
    hints=[
        "There are two Dense layers: pixels to hidden, and hidden to outputs.",
        "Weights: 784 * 400, then 400 * 10. Biases: one for each unit that computes something.",
    ],
    solution="(317600, 410). Weights: 784 * 400 + 400 * 10 = 317,600. Biases: 400 + 10 = 410. Together 318,010.",
)
def weights(answer):
    """How many weights and how many biases has a 784-400-10 network?"""
    found_weights, found_biases = several(answer, 2)
    if (found_weights, found_biases) == (410, 317_600):
        return "right numbers, wrong order: the weights come first."
    complaints = {
        318_010: "that is weights and biases together. Give the weights alone first.",
        313_600: "that is the first layer alone. The output layer has weights too.",
        4_000: "that is the output layer alone. The hidden layer has weights too.",
        314_000: "that is the hidden layer with its biases. Count the weights of both layers, without biases.",
        3_136_000: "784 * 400 * 10 multiplies the layers. Count each layer's weights on its own, and add.",
        1_194: "you added the units. Each unit is connected to every input: multiply.",
    }
    if found_weights != 317_600:
        return complaints.get(found_weights, "weights of a layer: its inputs times its units. Add the two layers.")
    bias_complaints = {
        400: "the weights are right. The ten outputs have biases too.",
        10: "the weights are right. The hidden units have biases too.",
        1_194: "the weights are right. Pixels are given, not computed: they have no bias.",
        2: "the weights are right. There is one bias for each unit, not for each layer.",
    }
    if found_biases != 410:
        return bias_complaints.get(found_biases, "the weights are right. Each unit that computes has one bias.")


@exercise(
    "01.parameters",
    hints=[
        "Take your sum for 400 hidden units, and write h wherever 400 stood.",
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
    patterns = {
        lambda h: 794 * h: "that is the number of weights: you left out the biases.",
        lambda h: 785 * h: "that is the hidden layer: the output layer has weights and biases too.",
        lambda h: 795 * h: "you left out the ten biases of the outputs.",
        lambda h: 794 * h + 10: "you left out the biases of the hidden units.",
        lambda h: h + 10: "that is the number of biases: you left out the weights.",
        lambda h: 318_010: "it always gives 318,010. Use the argument in place of 400.",
        lambda h: 794 * h + 794: "pixels have no bias: count the biases of the hidden units and of the outputs.",
    }
    if given == [795 * h + 10 for h in widths]:
        return None
    for formula, complaint in patterns.items():
        if given == [formula(h) for h in widths]:
            return complaint
    return f"for h = 1 it gives {given[0]:g}. Draw that network and count its lines and biases."


@exercise(
    "01.widths",
    hints=[
        "A 784-h-10 network has 795 h + 10 parameters. Set that equal to the limit, and solve for h.",
        '"At least" rounds up to the next whole unit; "below" rounds down.',
    ],
    solution="(378, 62). 795 * 378 + 10 = 300,520 but 377 gives 299,725; 795 * 62 + 10 = 49,300 but 63 gives 50,095.",
)
def widths(answer):
    """The smallest hidden layer with at least 300,000 parameters, and the largest with fewer than 50,000."""
    smallest, largest = several(answer, 2)
    if (smallest, largest) == (62, 378):
        return "right numbers, wrong order: first the one for at least 300,000."
    if smallest != 378:
        if smallest == 377:
            return "377 gives 299,725, a little too few: round up for at least."
        if smallest == 383:
            return "did you divide by 784? Each hidden unit also has a bias and ten weights to the outputs: 795."
        if smallest > 378:
            return f"{smallest:g} units give {795 * smallest + 10:,.0f}: enough, but a smaller layer is enough too."
        return f"{smallest:g} units give {795 * smallest + 10:,.0f}, fewer than 300,000."
    if largest == 63:
        return "the first is right. 63 gives 50,095, a little too many: round down for below."
    if largest > 62:
        return f"the first is right. {largest:g} units give {795 * largest + 10:,.0f}, which is not below 50,000."
    if largest < 62:
        return f"the first is right. {largest:g} units give {795 * largest + 10:,.0f}: there is room for more."


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
    },
    otherwise="write the change of a sum as learning rate x pixel x delta x pixel, and shrink both pixels.",
    hints=[
        "The pixel stands in the step twice: once in the gradient, once where the weight acts.",
        "Both pixels are 255 times smaller now. By how much does their product shrink?",
    ],
    solution="255**2 = 65,025. The gradient shrinks by 255, and its effect on the sums by 255 again.",
)


@exercise(
    "01.correlation",
    hints=["What shape has that which np.corrcoef returns?", "The number wanted is off the table's diagonal: [0, 1]."],
    solution="answer = np.corrcoef(sizes, means)[0, 1]",
)
def correlation(answer, sizes, means):
    """The correlation coefficient of the networks' sizes and accuracies."""
    true = np.corrcoef(sizes, means)[0, 1]
    if np.shape(answer) == (2, 2):
        return "that is the whole table, each with each. Take the entry off the diagonal: [0, 1]."
    value = number(answer)
    if math.isclose(value, true, abs_tol=0.006):
        return None
    if math.isclose(value, 1):
        return "1 is the correlation of something with itself. Take the entry off the diagonal."
    if math.isclose(value, true**2, abs_tol=0.002):
        return "that is the squared coefficient. It has lost its sign; the coefficient itself is asked for."
    if math.isclose(value, -true, abs_tol=0.006):
        return "the size is right, the sign is not: do larger networks read better or worse here?"
    if math.isclose(value, 100 * true, abs_tol=0.6):
        return "a correlation lies between -1 and 1; that looks like a percentage."
    if math.isclose(value, np.cov(sizes, means)[0, 1], rel_tol=0.01):
        return "that is the covariance. Divide by both standard deviations, or use np.corrcoef."
    return "that is not it: np.corrcoef(sizes, means) computes it."


number_exercise(
    "01.deep",
    question="How many parameters has the network 100-512-512-1024-10?",
    right=849_930,
    wrong={
        847_872: "that is the weights alone: add a bias for each unit.",
        2_058: "that is the biases alone: add the weights.",
        840_020: "that is what source D wrote down. Its own layers add up to something else: add again.",
        839_680: "the output layer has parameters too: 1024 weights and a bias for each digit.",
        1_200_138: "this network has 100 inputs, not 784.",
        587_274: "there are two layers of 512: the second has 512 * 512 weights and its biases.",
    },
    otherwise="inputs * units + units for each of the four layers, then add.",
    hints=[
        "Four layers: 100 to 512, 512 to 512, 512 to 1024, 1024 to 10. Each has inputs * units + units.",
        "The first has 51,712 and the second 262,656. The initialization and the penalty add nothing.",
    ],
    solution="849,930 = 51,712 + 262,656 + 525,312 + 10,250.",
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
    if not hasattr(answer, "layers") or not hasattr(answer, "count_params") or not getattr(answer, "built", False):
        return f"the answer is a Keras model, made by keras.Model(inputs, outputs); this is a {type(answer).__name__}."
    if tuple(answer.input_shape) != (None, 784):
        return f"one input of 784 pixels is wanted; this model's input has shape {answer.input_shape}."
    if tuple(answer.output_shape) != (None, 10):
        return f"ten outputs are wanted; this model's output has shape {answer.output_shape}."
    kinds = [type(layer).__name__ for layer in answer.layers]
    if "Concatenate" not in kinds:
        return "there is no Concatenate layer, so the output layer sees only what the layer before it passes on."
    last = [layer for layer in answer.layers if type(layer).__name__ == "Dense"][-1]
    if last.units != 10 or kinds.index("Concatenate") > answer.layers.index(last):
        return "after joining, a Dense layer of ten outputs is wanted."
    size = last.kernel.shape[0]
    if size != 784 + 32:
        return f"the output layer sees {size} numbers; 784 pixels and 32 hidden values make 816."
    if answer.count_params() != 33_290:
        return f"it has {answer.count_params():,} parameters; one hidden layer of 32 gives 33,290."
    # An activation may be inside its layer or a layer of its own, and have several names: try what comes out.
    images = np.random.default_rng(1).normal(size=(50, 784)).astype("float32")
    joined = type(answer)(answer.input, last.input)(images).numpy()  # (50, 816), the pixels first or last
    hidden = joined[:, 784:] if np.allclose(joined[:, :784], images) else joined[:, :32]
    if hidden.min() != 0 or hidden.max() <= 1:
        return "what the hidden layer passes on is not what ReLU leaves: max(0, z)."
    outputs = answer(images).numpy()
    if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=1e-4):
        return "the ten outputs are not probabilities: they should be at least 0 and add up to 1. Softmax does that."


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
    cases = ((0.9, 100), (0.98, 10_000), (0.5, 25))
    given = [number(call(answer, p, n)) for p, n in cases]

    def same(formula):
        return np.allclose(given, [formula(p, n) for p, n in cases], rtol=1e-6, atol=0)

    if same(lambda p, n: math.sqrt(p * (1 - p) / n)):
        return None
    if same(lambda p, n: p * (1 - p) / n):
        return "that is its square, the variance: take the root."
    if same(lambda p, n: math.sqrt(p * (1 - p)) / n):
        return "n belongs under the root."
    if same(lambda p, n: math.sqrt(p * (1 - p))):
        return "that is the spread of a single image. Divide by n under the root."
    if same(lambda p, n: 1.96 * math.sqrt(p * (1 - p) / n)):
        return "that is half the width of the 95% interval. The standard error comes without the 1.96."
    if same(lambda p, n: math.sqrt(p / n)):
        return "you left out the factor 1 - p: a network that is always right would have no luck to fear."
    if same(lambda p, n: 100 * math.sqrt(p * (1 - p) / n)):
        return "that is in percentage points; keep p and its error both as fractions."
    return f"for p = 0.9 and n = 100 it gives {given[0]:.4g}; by the formula it is 0.03."


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
    given = several(answer, 3)
    if all(50 < value <= 100 for value in given):
        return "give fractions between 0 and 1, not percentages."
    sets = ((data.x_train, data.y_train), (data.x_valid, data.y_valid), (data.x_test, data.y_test))
    losses, true = zip(*(model.evaluate(x, y, verbose=0)[:2] for x, y in sets), strict=True)
    if np.allclose(given, true, atol=6e-4):
        return None
    if np.allclose(given, losses, atol=6e-4):
        return "these are the losses: evaluate returns the loss first, then the accuracy."
    if np.allclose(sorted(given), sorted(true), atol=6e-4):
        return "right numbers, wrong order: train, validation, test."
    if np.allclose(given, [1 - value for value in true], atol=6e-4):
        return "these are the shares of mistakes. Accuracy is what is left."
    names = ("training", "validation", "test")
    off = next(i for i in range(3) if abs(given[i] - true[i]) > 6e-4)
    if off == 0 and np.allclose(given[1:], true[1:], atol=6e-4):
        return "validation and test are right. Is the first the history's? That averages over the epoch: evaluate."
    if np.allclose(given, true, atol=6e-3):
        return "close: give at least four decimals, or the numbers as evaluate returns them."
    return f"the {names[off]} accuracy is not {given[off]:.4f}: evaluate final_model on the {names[off]} images."


@exercise(
    "01.epoch-time",
    hints=["391/391 counts steps. What does 2ms/step say?", "391 steps of 2 thousandths of a second each."],
    solution="About 0.8 s: 391 steps * 0.002 s. The line rounds it to 1s. The 2 ms are one step, not the epoch.",
)
def epoch_time(answer):
    """An epoch of 391 steps at 2 ms per step: how many seconds?"""
    value = number(answer)
    if 0.58 <= value <= 1.2:  # 391 steps of 1.5 to 2.5 ms, or the rounded 1s
        return None
    if math.isclose(value, 0.002):
        return "that is one step. An epoch has 391 of them."
    if value == 2:
        return "2 ms is the time of a step, and in milliseconds."
    if 580 <= value <= 1000:
        return "that is in milliseconds. In seconds?"
    if value == 391:
        return "that is the number of steps. How long does each take?"
    if math.isclose(value, 0.002 * 128):
        return "a step takes 2 ms with all of its images; do not multiply by the batch."
    return "multiply the number of steps by the time that one takes."
