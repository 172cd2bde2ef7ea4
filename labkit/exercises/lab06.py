"""Exercises of lab 06: XOR from scratch."""

import numpy as np

from labkit.exercises.core import (
    Right,
    Wrong,
    WrongAnswer,
    call,
    exercise,
    first_difference,
    number,
    number_exercise,
    prediction,
    several,
)

X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
Y = np.array([[0], [1], [1], [0]], dtype=float)
PARAMETERS = ("w_hidden", "w_output", "b_hidden", "b_output")
FAR = 1e12  # targets so far away that the loss has no digit left for what a nudged weight changes

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
    solution="""
# Two have no line: XOR, and its opposite (1 where the inputs are equal). Both keep the diagonals apart.
answer = 16 - 2
""",
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
    solution="answer = (3 * 2 + 2) + (2 * 1 + 1)  # weights and biases of the hidden layer, then of the output",
)


@exercise(
    "06.zero",
    hints=[
        "With all weights and biases 0, what goes into each sigmoid?",
        "The sigmoid of 0 is one half, for the output unit too. So the error is one half in each row.",
        "Half of the squared error, for one row: a half of a quarter. All rows are alike, so the mean is the same.",
    ],
    solution="""
# Each sigmoid gets 0 and answers one half. Each row loses half of the squared error; so does the mean of the rows.
answer = (0.5, 0.5 * 0.5**2)
""",
)
def zero(answer):
    """What does a network of zeros answer to XOR, and how large is its mean loss?"""
    output, loss = several(answer, 2)
    if _same(output, 0.5) and _same(loss, 0.125):
        return Right()
    if _same(output, 0.125) and _same(loss, 0.5):
        return Wrong("right numbers, wrong order: the output comes first, then the loss.")
    if output == 0:
        return Wrong("0 goes into the output's sigmoid, but what comes out of it? Look at the curve at z = 0.")
    if not _same(output, 0.5):
        return Wrong("the output is the sigmoid of 0. Read it off the curve.")
    if _same(loss, 0.25):
        return Wrong("the output is right. The loss is half of the squared error: you left out the half.")
    if _same(loss, 0.5):
        return Wrong(
            "the output is right. 0.5 is the sum over the four rows (or the error itself); the mean is asked for."
        )
    return Wrong("the output is right. For the loss: square the error of one row, and halve it.")


def _same(given, right):
    return first_difference([given], [right]) is None


@exercise(
    "06.mend",
    hints=[
        "Run relative_errors on Broken(3, 2): which parameters are off?",
        "The hidden layer's are. So look at delta_hidden: which of its factors speaks of the sigmoid?",
        "The derivative of tanh(z) is 1 - tanh(z)**2, and self.hidden is tanh(z) already.",
    ],
    solution="""
class Mended(Broken):
    def backward(self, x, y):
        delta_output = (self.output - y) * self.output * (1 - self.output)  # the output is still a sigmoid
        delta_hidden = (delta_output @ self.w_output.T) * (1 - self.hidden**2)  # the slope of tanh
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
    """Write a class whose backward is right for hidden units that use tanh."""
    if not isinstance(answer, type):
        return Wrong("the answer is a class: give its name, without quotation marks and without parentheses after it.")
    name = answer.__name__
    if not hasattr(answer, "backward") or not hasattr(answer, "forward"):
        return Wrong(f"{name} lacks forward or backward: begin with `class Mended(Broken):`.")
    generator = np.random.default_rng(6)
    x, y = generator.normal(size=(5, 3)), generator.random((5, 2))
    shapes = {"w_hidden": (3, 2), "w_output": (2, 2), "b_hidden": (2,), "b_output": (2,)}
    parameters = {key: generator.uniform(-1, 1, shape) for key, shape in shapes.items()}
    given = _gradients_of(answer, parameters, x, y)
    right = _tanh_gradients(parameters, x, y)
    if not all(_close(given[key], right[key]) for key in PARAMETERS):
        return Wrong(_complaint(answer, given, parameters, x, y))
    far = y + FAR
    given, right = _gradients_of(answer, parameters, x, far), _tanh_gradients(parameters, x, far)
    if not all(_close(given[key], right[key]) for key in PARAMETERS):
        return Wrong(
            "its gradients agree with the chain rule's to some digits only, as central differences do, and are far off "
            "where the loss is large. Differences are for checking: write out what the chain rule gives."
        )
    return Right()


def _gradients_of(kind, parameters, x, y):
    """What backward returns in a network of the student's class with these parameters. Raises WrongAnswer."""
    name = kind.__name__
    try:
        with np.errstate(all="ignore"):
            network = kind(3, 2, 2)
            for key, value in parameters.items():
                setattr(network, key, value.copy())
            output = np.asarray(network.forward(x), dtype=float)
            gradients = network.backward(x, y)
            after = {key: np.array(getattr(network, key)) for key in PARAMETERS}
            if isinstance(gradients, dict):
                gradients = {key: np.array(value, dtype=float) for key, value in gradients.items()}
    except WrongAnswer:
        raise
    except (Exception, SystemExit) as error:
        said = (str(error).splitlines() or ["no message"])[0].rstrip(".")
        raise WrongAnswer(f"trying {name}(3, 2, 2) stopped with {type(error).__name__}: {said}.") from None
    if not _close(output, _tanh_forward(parameters, x)[1]):
        if _close(output, _forward(parameters, x, _sigmoid)[1]):
            raise WrongAnswer(
                "its forward is that of Network, with the sigmoid in the hidden layer: begin with "
                "`class Mended(Broken):`, whose forward has tanh."
            )
        raise WrongAnswer("its forward gives something else than Broken's. Leave forward as it is, and mend backward.")
    if not isinstance(gradients, dict) or set(gradients) != set(PARAMETERS):
        raise WrongAnswer(f"backward must return a dict with a gradient for each of {', '.join(PARAMETERS)}.")
    if not all(np.array_equal(after[key], parameters[key]) for key in PARAMETERS):
        raise WrongAnswer("backward changes the parameters. It only returns gradients; the step is taken by train.")
    for key in PARAMETERS:
        if gradients[key].shape != parameters[key].shape:
            shapes = gradients[key].shape, parameters[key].shape
            raise WrongAnswer(f"the gradient of {key} has shape {shapes[0]}; {key} has shape {shapes[1]}.")
        if not np.isfinite(gradients[key]).all():
            raise WrongAnswer(f"the gradient of {key} is not finite.")
    return gradients


def _complaint(kind, given, parameters, x, y):
    """What is wrong with gradients that are not all right."""
    right = _tanh_gradients(parameters, x, y)
    off = [key for key in PARAMETERS if not _close(given[key], right[key])]
    hidden, output = _tanh_forward(parameters, x)
    back = ((output - y) * output * (1 - output)) @ parameters["w_output"].T
    if set(off) == {"w_hidden", "b_hidden"}:

        def has(slope):
            delta = back * slope
            return _close(given["w_hidden"], x.T @ delta) and _close(given["b_hidden"], delta.sum(axis=0))

        if has(hidden * (1 - hidden)):
            return _still_the_sigmoid(kind)
        if has(1 - np.tanh(hidden) ** 2):
            return "self.hidden is the value of tanh already; your slope takes tanh of it once more."
        if has(1 + hidden**2) or has(hidden**2 - 1):
            return "the slope of tanh is nearly there: look at its sign."
        if has(1 - hidden):
            return "tanh's slope is not 1 - h: it is largest where h is 0, and 0 at both ends, -1 and 1."
        if has(1):
            return "delta_hidden lacks the slope of tanh: what went forward through it comes back through its slope."
        return "the output layer is right and the hidden layer wrong: look at delta_hidden, factor by factor."
    ratios = [np.sum(given[key] * right[key]) / np.sum(right[key] ** 2) for key in PARAMETERS]
    proportional = all(_close(given[key], ratios[0] * right[key]) for key in PARAMETERS)
    if proportional and _same(ratios[0], -1):
        return "every gradient has the wrong sign: train subtracts it, so these steps would climb."
    if proportional and ratios[0]:
        return f"every gradient is {ratios[0]:.3g} times the true one: is it a mean, where the loss is a sum?"
    if set(off) <= {"b_hidden", "b_output"}:
        return f"the weights are right, but not {' and '.join(off)}: a bias's gradient sums its deltas over the rows."
    delta = (output - y) * (1 - output**2)
    if _close(given["b_output"], delta.sum(axis=0)):
        return "the output unit is still a sigmoid: only the hidden layer's slope is that of tanh."
    return f"central differences disagree for {', '.join(off)}. Start at the output: what is delta_output?"


def _still_the_sigmoid(kind):
    """What to say where the hidden gradients are those of the lab's Network: its backward, a call of it, or a copy."""
    own = vars(kind).get("backward")
    above = [vars(base).get("backward") for base in kind.__mro__[1:]]
    if own is None:
        return f"{kind.__name__} has no backward of its own, and the one that it inherits is for sigmoids. Write one."
    if any(own is other for other in above):
        return "its backward is the one of Network, handed on as it is, and that one is for sigmoids. Write your own."
    if "backward" in getattr(getattr(own, "__code__", None), "co_names", ()):
        return "its backward only calls another one, which is for sigmoids: the slope of tanh is not h(1 - h)."
    return "the hidden layer's slope is still the sigmoid's, h(1 - h). That of tanh is another: differentiate it."


def _sigmoid(z):
    with np.errstate(over="ignore"):  # a very sharp step is no mistake
        return 1 / (1 + np.exp(-z))


def _forward(parameters, x, activation):
    hidden = activation(x @ parameters["w_hidden"] + parameters["b_hidden"])
    return hidden, _sigmoid(hidden @ parameters["w_output"] + parameters["b_output"])


def _tanh_forward(parameters, x):
    return _forward(parameters, x, np.tanh)


def _tanh_gradients(parameters, x, y):
    """By the chain rule: half of the squared error, tanh in the hidden layer, sigmoids at the output."""
    hidden, output = _tanh_forward(parameters, x)
    delta_output = (output - y) * output * (1 - output)
    delta_hidden = delta_output @ parameters["w_output"].T * (1 - hidden**2)
    return {
        "w_hidden": x.T @ delta_hidden,
        "w_output": hidden.T @ delta_output,
        "b_hidden": delta_hidden.sum(axis=0),
        "b_output": delta_output.sum(axis=0),
    }


def _close(given, right):
    """Whether two arrays agree as far as float32 would. Never where there is a NaN."""
    return given.shape == right.shape and bool(
        np.linalg.norm(given - right) <= 1e-5 * (np.linalg.norm(given) + np.linalg.norm(right))
    )


@exercise(
    "06.by-hand",
    hints=[
        "Unit 1: answer 1 if the inputs add up to more than 0.5. Unit 2: if they add up to more than 1.5.",
        "For unit 1, weights 20 and 20 with bias -10 do it: the sum 0 gives -10, the sum 1 gives +10.",
        'The output should be 1 for "unit 1 but not unit 2": weights 20 and -20, bias -10.',
    ],
    solution="""
answer = (
    np.array([[20, 20], [20, 20], [0, 0]]),  # both units add up the two inputs
    np.array([-10, -30]),  # unit 1: at least one input is 1; unit 2: both are
    np.array([[20], [-20]]),
    np.array([-10]),  # at least one, but not both
)
""",
)
def by_hand(answer, trained):
    """Construct weights and biases of a 3-2-1 network of sigmoids that solves XOR.

    trained: the lab's trained network, whose weights are no construction.
    """
    arrays = _four_arrays(answer)
    if _is_like(arrays, trained):
        return Wrong("these are the weights that training found. Here you find some yourself: what is each unit for?")
    if all(_is_long(value) for array in arrays.values() for value in array.flat):
        return Wrong(
            "none of these eleven numbers is short, so they look like the outcome of a training. Construct the units "
            "instead: a few whole numbers do."
        )
    if np.all(abs(_outputs(arrays, 1) - Y) < 0.1):
        return Right()
    for times in (2, 3, 5, 10, 20, 50, 100, 1000, 10**4, 10**6):
        if np.all(abs(_outputs(arrays, times) - Y) < 0.1):
            return Wrong(
                f"the construction is right, but its steps are not sharp enough: with all eleven numbers {times} times "
                "as large, it comes within 0.1."
            )
    given, sharp = ((_outputs(arrays, times) > 0.5).astype(int)[:, 0].tolist() for times in (1, 1000))
    if given == [0, 1, 1, 0]:
        return Wrong(
            "each answer is on the right side of one half, but not within 0.1, and larger numbers alone do not mend "
            "it: look at the biases."
        )
    how = "" if given == sharp else "made sharp (all numbers times 1000), "
    functions = {(0, 1, 1, 1): "OR", (0, 0, 0, 1): "AND", (1, 0, 0, 1): "the opposite of XOR", (1, 1, 1, 0): "NAND"}
    if tuple(sharp) in functions:
        return Wrong(f"{how}that is {functions[tuple(sharp)]}: the rows give {sharp}, and XOR is [0, 1, 1, 0].")
    if len(set(sharp)) == 1:
        return Wrong(
            f"{how}every row gets the answer {sharp[0]}: look at the output's bias, and at what reaches the output."
        )
    return Wrong(f"{how}the rows give {sharp}, and XOR is [0, 1, 1, 0].")


def _four_arrays(answer):
    """The answer's parts as arrays by name. Raises WrongAnswer where they are not what the exercise asks for."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 4:
        raise WrongAnswer("the answer is four arrays: (w_hidden, b_hidden, w_output, b_output).")
    shapes = {"w_hidden": (3, 2), "b_hidden": (2,), "w_output": (2, 1), "b_output": (1,)}
    arrays = {}
    for (name, shape), part in zip(shapes.items(), answer, strict=True):
        try:
            array = np.atleast_1d(np.asarray(part, dtype=float))
        except Exception:
            raise WrongAnswer(f"{name} is no array of numbers.") from None
        if array.shape != shape:
            raise WrongAnswer(f"{name} must have shape {shape}; yours has {array.shape}.")
        if not np.isfinite(array).all():
            raise WrongAnswer(f"{name} has numbers that are not finite. Large ones are enough.")
        arrays[name] = array
    return arrays


def _outputs(arrays, times):
    return _forward({name: times * array for name, array in arrays.items()}, X, _sigmoid)[1]


def _is_like(arrays, trained):
    """Whether each unit points where the trained network's does, whatever its size and whichever comes first."""
    theirs = {name: np.asarray(getattr(trained, name, np.nan), dtype=float) for name in PARAMETERS}
    if any(theirs[name].shape != arrays[name].shape for name in PARAMETERS):
        return False  # another network: nothing to compare with
    return any(
        all(_parallel(a, b) for a, b in zip(_units(arrays, [0, 1]), _units(theirs, order), strict=True))
        for order in ([0, 1], [1, 0])
    )


def _units(arrays, order):
    """Weights and bias of the two hidden units, in this order, and of the output."""
    hidden = np.vstack([arrays["w_hidden"], arrays["b_hidden"]]).T[order]
    return [*hidden, np.append(arrays["w_output"][order, 0], arrays["b_output"])]


def _parallel(a, b):
    return bool(a @ b > 0.9999 * np.linalg.norm(a) * np.linalg.norm(b))


def _is_long(value):
    """Whether a number has more than five digits that count."""
    return value != float(f"{value:.5g}")


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
    true = np.array([ones * (rows - ones) / rows / 8 for ones, rows in cases])
    first = first_difference(given, true)
    if first is None:
        return Right()
    rows = np.array([rows for _, rows in cases])
    mistakes = (
        (2 * true, "twice too much: the loss is half of the squared error."),
        (4 * true, "that is the sum; the mean is over all four rows, those answered correctly included."),
        (
            true * 4 / rows,
            "you took the mean over the rows that are alike. Divide by all four: the others count, with loss 0.",
        ),
        (
            rows / 32,
            "you let them all answer one half. With two ones among three rows, a higher answer costs less: which?",
        ),
    )
    for made, feedback in mistakes:
        if first_difference(given, made) is None:
            return Wrong(feedback)
    ones, rows = cases[first]
    return Wrong(f"plateau({ones}, {rows}) is off. What is the best common answer, and how far is each row from it?")
