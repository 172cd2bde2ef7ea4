"""Exercises of lab 06: XOR from scratch."""

import contextlib
import math

import numpy as np

from labkit.exercises.core import WrongAnswer, call, exercise, number, number_exercise, prediction, several

X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
Y = np.array([[0], [1], [1], [0]], dtype=float)
PARAMETERS = ("w_hidden", "w_output", "b_hidden", "b_output")

prediction("06.success", "which share of random starts learns XOR, from 0 to 1?", low=0, high=1)


number_exercise(
    "06.separable",
    question="For how many of the 16 functions of two binary inputs does a separating line exist?",
    right=14,
    wrong={
        16: "one of the 16 is XOR, and you have just seen that no line separates it.",
        15: "XOR is not alone: what if you swap all its zeros and ones?",
        2: "that is how many have no line. How many do?",
        1: "AND, OR, or always 0 have lines too. Count those that have one.",
        12: "did you leave out always 0 and always 1? A line far away has all rows on one side.",
        8: "half of them would be a coincidence: try the functions with exactly one 1, then those with three.",
    },
    otherwise="go through them by how many of the four rows have target 1: none, one, ... all.",
    hints=[
        "Always 0 counts: a line far away has all four rows on one side. So does AND.",
        "Which targets have equal values at the ends of each diagonal, but different ones on the two diagonals?",
        "XOR is one of them. Swap all its zeros and ones to get the other.",
    ],
    solution="14. Only XOR and its opposite (equal inputs give 1) need the diagonals kept apart: 16 - 2 = 14.",
)


number_exercise(
    "06.count",
    question="How many parameters has a network with 3 inputs, 2 hidden units and 1 output?",
    right=11,
    wrong={
        8: "that is the weights alone, or the hidden layer alone: count both layers, with their biases.",
        3: "that is the biases alone, or the output layer alone: count weights and biases of both layers.",
        6: "that is the hidden layer's weights. Its biases, and the output layer, can learn too.",
        9: "two inputs would give 9. The third input, always 1, has weights as well.",
        10: "one short: the output unit has a bias too.",
        4: "that is how many arrays there are. Count the numbers in them.",
    },
    otherwise="add up weights and biases, layer by layer.",
    hints=[
        "A layer with i inputs and u units has i times u weights, and a bias for each unit.",
        "The hidden layer has 3 inputs and 2 units. The output layer has 2 inputs and 1 unit.",
    ],
    solution="11. Hidden layer: 3 * 2 weights + 2 biases = 8. Output layer: 2 * 1 weights + 1 bias = 3.",
)


@exercise(
    "06.zero",
    hints=[
        "With all weights and biases 0, what goes into each sigmoid?",
        "The sigmoid of 0 is one half, for the output unit too. So the error is one half in each row.",
        "Half of the squared error, for one row: a half of a quarter. All rows are alike, so the mean is the same.",
    ],
    solution="(0.5, 0.125). Each sigmoid gets 0 and answers 0.5. Each row loses 0.5 * 0.5**2 = 1/8; so does the mean.",
)
def zero(answer):
    """What does a network of zeros answer to XOR, and how large is its mean loss?"""
    output, loss = several(answer, 2)
    if math.isclose(output, 0.125) and math.isclose(loss, 0.5):
        return "right numbers, wrong order: the output comes first, then the loss."
    if output == 0:
        return "0 goes into the output's sigmoid, but what comes out of it? Look at the curve at z = 0."
    if output != 0.5:
        return "the output is the sigmoid of 0. Read it off the curve."
    if math.isclose(loss, 0.25):
        return "the output is right. The loss is half of the squared error: you left out the half."
    if math.isclose(loss, 0.5):
        return "the output is right. 0.5 is the sum over the four rows (or the error itself); the mean is asked for."
    if not math.isclose(loss, 0.125):
        return "the output is right. For the loss: square the error of one row, and halve it."


def _gradient_report(kind):
    """Compare the backward pass of a Network class with central differences. Returns a complaint, or None."""
    generator = np.random.default_rng(6)
    x, y = generator.normal(size=(5, 3)), generator.random((5, 2))
    network = kind(3, 2, 2)
    for name, shape in zip(PARAMETERS, ((3, 2), (2, 2), (2,), (2,)), strict=True):
        setattr(network, name, generator.uniform(-1, 1, shape))
    output = np.asarray(network.forward(x))
    hidden = _sigmoid(x @ network.w_hidden + network.b_hidden)
    if output.shape != y.shape or not np.allclose(output, _sigmoid(hidden @ network.w_output + network.b_output)):
        return "forward gives something else than before; only backward is broken."
    gradients = network.backward(x, y)
    if not isinstance(gradients, dict) or set(gradients) != set(PARAMETERS):
        return f"backward must return a dict with a gradient for each of {', '.join(PARAMETERS)}."
    wrong, ratios = [], []
    for name in PARAMETERS:
        given, true = np.asarray(gradients[name], dtype=float), _central_differences(network, name, x, y)
        if given.shape != true.shape:
            return f"the gradient of {name} has shape {given.shape}; {name} has shape {true.shape}."
        if not np.isfinite(given).all():
            return f"the gradient of {name} is not finite."
        if np.linalg.norm(given - true) > 1e-6 * (np.linalg.norm(given) + np.linalg.norm(true)):
            wrong.append(name)
        ratios.append(np.sum(given * true) / np.sum(true**2))
    if not wrong:
        return None
    if len(wrong) == 4 and np.allclose(ratios, -1):
        return "every gradient has the wrong sign: train subtracts it, so these steps would climb."
    if len(wrong) == 4 and np.allclose(ratios, ratios[0], rtol=1e-5):
        return f"every gradient is {ratios[0]:.3g} times the true one: is it a mean, where the loss is a sum?"
    if set(wrong) == {"w_hidden", "b_hidden"}:
        return "the output layer is right and the hidden layer wrong: look at delta_hidden, factor by factor."
    if set(wrong) <= {"b_hidden", "b_output"}:
        return f"the weights are right, but not {' and '.join(wrong)}: a bias's gradient sums its deltas over the rows."
    return f"central differences disagree for {', '.join(wrong)}. Start at the output: what is delta_output?"


def _sigmoid(z):
    with np.errstate(over="ignore"):  # a very sharp step is no mistake
        return 1 / (1 + np.exp(-z))


def _central_differences(network, name, x, y, step=1e-5):
    parameter = getattr(network, name)
    gradient = np.zeros_like(parameter)
    for i in np.ndindex(parameter.shape):
        value = parameter[i]
        losses = []
        for nudged in (value + step, value - step):
            parameter[i] = nudged
            losses.append(np.sum((y - network.forward(x)) ** 2) / 2)
        parameter[i] = value
        gradient[i] = (losses[0] - losses[1]) / (2 * step)
    return gradient


@exercise(
    "06.mend",
    hints=[
        "Run relative_errors on Broken(3, 2): which parameters are off?",
        "The hidden layer's are. So look at delta_hidden, and at what its slope is computed from.",
        "self.hidden is already a sigmoid's value, a. Its slope is a(1 - a); no second sigmoid belongs there.",
    ],
    solution="""
class Mended(Network):
    def backward(self, x, y):
        delta_output = (self.output - y) * self.output * (1 - self.output)
        slope = self.hidden * (1 - self.hidden)  # self.hidden is the sigmoid's value already
        delta_hidden = (delta_output @ self.w_output.T) * slope
        return {
            "w_hidden": x.T @ delta_hidden,
            "w_output": self.hidden.T @ delta_output,
            "b_hidden": delta_hidden.sum(axis=0),
            "b_output": delta_output.sum(axis=0),
        }

answer = Mended
""",
)
def mend(answer):
    """Mend the class Broken, whose backward applies the sigmoid twice to the hidden layer."""
    if not isinstance(answer, type):
        return "the answer is a class: give its name, without quotation marks and without parentheses after it."
    if not hasattr(answer, "backward") or not hasattr(answer, "forward"):
        return f"{answer.__name__} lacks forward or backward: begin with `class {answer.__name__}(Network):`."
    if "backward" not in vars(answer):
        return f"{answer.__name__} has no backward of its own. Write one that is right."
    if not any("backward" in vars(base) for base in answer.__mro__[1:]):
        return f"{answer.__name__} is not built on Network: begin with `class Mended(Network):`."
    with _alone(answer):
        complaint = _gradient_report(answer)
    return f"this is the broken class itself: {complaint}" if complaint and answer.__name__ == "Broken" else complaint


@contextlib.contextmanager
def _alone(kind):
    """While judging, the classes that `kind` builds on refuse to do its backward pass for it."""

    def refuse(*_):
        raise WrongAnswer("its backward leaves the work to the class that it is built on: write the gradients out.")

    bases = {base: vars(base)["backward"] for base in kind.__mro__[1:] if "backward" in vars(base)}
    for base in bases:
        base.backward = refuse
    try:
        yield
    finally:
        for base, backward in bases.items():
            base.backward = backward


@exercise(
    "06.by-hand",
    hints=[
        "Unit 1: answer 1 if the inputs add up to more than 0.5. Unit 2: if they add up to more than 1.5.",
        "For unit 1, weights 20 and 20 with bias -10 do it: the sum 0 gives -10, the sum 1 gives +10.",
        'The output should be 1 for "unit 1 but not unit 2": weights 20 and -20, bias -10.',
    ],
    solution="""
w_hidden = np.array([[20, 20], [20, 20], [0, 0]])
b_hidden = np.array([-10, -30])   # at least one; both
w_output = np.array([[20], [-20]])
b_output = np.array([-10])        # at least one, but not both
answer = (w_hidden, b_hidden, w_output, b_output)
""",
)
def by_hand(answer):
    """Give weights and biases of a 3-2-1 network of sigmoids that solves XOR."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 4:
        raise WrongAnswer("the answer is four arrays: (w_hidden, b_hidden, w_output, b_output).")
    names, shapes = ("w_hidden", "b_hidden", "w_output", "b_output"), ((3, 2), (2,), (2, 1), (1,))
    arrays = [np.atleast_1d(np.asarray(part, dtype=float)) for part in answer]
    for name, array, shape in zip(names, arrays, shapes, strict=True):
        if array.shape != shape:
            return f"{name} must have shape {shape}; yours has {array.shape}."
        if not np.isfinite(array).all():
            return f"{name} has numbers that are not finite. Large ones are enough."
    w_hidden, b_hidden, w_output, b_output = arrays
    output = _sigmoid(_sigmoid(X @ w_hidden + b_hidden) @ w_output + b_output)
    decided = (output > 0.5).astype(int)[:, 0].tolist()
    if np.all(abs(output - Y) < 0.1):
        return None
    functions = {(0, 1, 1, 1): "OR", (0, 0, 0, 1): "AND", (1, 0, 0, 1): "the opposite of XOR", (1, 1, 1, 0): "NAND"}
    if decided == [0, 1, 1, 0]:
        return "each answer is on the right side of one half, but not within 0.1: make the weights and biases larger."
    if tuple(decided) in functions:
        return f"that is {functions[tuple(decided)]}: the rows give {decided}, and XOR is [0, 1, 1, 0]."
    if len(set(decided)) == 1:
        return f"every row gets the answer {decided[0]}: look at the output's bias, and at what reaches the output."
    return f"the rows give {decided}, and XOR is [0, 1, 1, 0]."


@exercise(
    "06.plateau",
    hints=[
        "All `rows` get one common answer. Which number minimizes the sum of squared errors to their targets?",
        "The mean of the targets: p = ones / rows. `ones` rows miss by 1 - p, the other `rows - ones` by p.",
        "Square and add these errors, take the half, and divide by all 4 rows. Does (1, 2) give 1/16?",
    ],
    solution="""
def plateau(ones, rows):
    p = ones / rows  # the best common answer
    return (ones * (1 - p) ** 2 + (rows - ones) * p**2) / 2 / 4
""",
)
def plateau(answer):
    """The mean loss where `rows` of the four rows, `ones` of them with target 1, get the same best answer."""
    cases = ((1, 2), (2, 3), (1, 3), (2, 4), (1, 1))
    given = [number(call(answer, ones, rows)) for ones, rows in cases]
    true = [ones * (rows - ones) / rows / 8 for ones, rows in cases]
    if np.allclose(given, true, atol=1e-6):
        return None
    if np.allclose(given, 2 * np.array(true), atol=1e-6):
        return "twice too much: the loss is half of the squared error."
    if np.allclose(given, 4 * np.array(true), atol=1e-6):
        return "that is the sum; the mean is over all four rows, those answered correctly included."
    if np.allclose(given, [value * 4 / rows for value, (_, rows) in zip(true, cases, strict=True)], atol=1e-6):
        return "you took the mean over the rows that are alike. Divide by all four: the others count, with loss 0."
    if np.allclose(given, [rows / 32 for _, rows in cases], atol=1e-6):
        return "you let them all answer one half. With two ones among three rows, a higher answer costs less: which?"
    ones, rows = next(case for case, a, b in zip(cases, given, true, strict=True) if not np.isclose(a, b, atol=1e-6))
    return f"plateau({ones}, {rows}) is off. What is the best common answer, and how far is each row from it?"
