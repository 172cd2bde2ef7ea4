"""Exercises of lab 07: optimizers, losses and metrics."""

import math
from collections import UserDict

import numpy as np

from labkit.exercises.core import (
    Right,
    Wrong,
    WrongAnswer,
    call,
    exercise,
    first_difference,
    name_of,
    number_exercise,
    prediction,
    several,
)

prediction("07.adam-gain", "by how many points is Adam above SGD, each at its best rate?", -20, 20, " points")
prediction("07.usable", "how many of Adam's nine learning rates are usable?", low=0, high=9)

ABOUT = 2e-3  # relative: answers may be rounded to three or four digits


def _about(one, other):
    return math.isclose(one, other, rel_tol=ABOUT)


def _is_rounded_too_far(value, right, decimals):
    """Whether `value` is the right number, rounded or cut off after so many decimals, or after fewer."""
    return any(abs(value - right) < 10.0**-d and value == round(value, d) for d in range(1, decimals + 1))


def _array(returned, shape, name):
    """What a student's function returned, as an array of this shape. Raises WrongAnswer where it is something else."""
    try:
        array = np.asarray(returned)
    except Exception:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf":
        raise WrongAnswer(f"{name} should return numbers; this is something else.")
    if array.shape != shape and array.size == math.prod(shape):  # a row, or a column
        array = array.reshape(shape)
    if array.shape != shape:
        count = math.prod(shape)
        wanted = "one number" if count == 1 else f"an array of {count} numbers"
        raise WrongAnswer(f"{name} should return {wanted}; yours has the shape {array.shape}.")
    if not np.isfinite(array).all():
        raise WrongAnswer(f"{name} returns what is not finite ({array}): look for a division by zero, or a logarithm.")
    return array.astype(float)


@exercise(
    "07.first-step",
    hints=[
        "Put the first gradient g into each rule. What are the averages after one gradient, and what is divided out?",
        "Adam's corrected averages are g and g squared. RMSprop's average is a tenth of g squared, uncorrected.",
    ],
    solution="""
# Adam: g / sqrt(g**2) is 1, so the step is the rate, whatever the gradient.
# RMSprop: g / sqrt(0.1 * g**2) is 1 / sqrt(0.1), about 3.16, since its average is not corrected.
answer = (0.001, 0.001 / np.sqrt(0.1))
""",
)
def first_step(answer):
    """How far Adam and RMSprop go in their first step, with rate 0.001 and gradient 250."""
    given = [abs(value) for value in several(answer, 2)]
    adam, rmsprop = 0.001, 0.001 / math.sqrt(0.1)

    def is_rmsprop(value):
        return math.isclose(value, rmsprop, rel_tol=0.02)  # 0.0032 is enough

    if _about(given[0], adam) and is_rmsprop(given[1]):
        return Right()
    if _about(given[1], adam) and is_rmsprop(given[0]):
        return Wrong("right numbers, wrong order: Adam comes first.")
    if any(_about(value, 0.25) for value in given):
        return Wrong("0.25 is rate times gradient, as SGD has it. The other two divide by the size of the gradient.")
    if _about(given[0], 0.0001):
        return Wrong("Adam's average is a tenth of the gradient at first, but it is corrected for that.")
    if is_rmsprop(given[0]):
        return Wrong("for Adam, you left the correction of the averages out: it divides them by 1 - keep**1.")
    if not _about(given[0], adam):
        return Wrong("not right for Adam. After one gradient g, its corrected averages are g and g**2.")
    if _about(given[1], adam):
        return Wrong("right for Adam. RMSprop does not correct its average: after one gradient it is only 0.1 * g**2.")
    if _about(given[1], 0.01):
        return Wrong("right for Adam. RMSprop divides by the *root* of its average, of 0.1 * g**2.")
    if _about(given[1], 0.001 / math.sqrt(0.9)):
        return Wrong("right for Adam. RMSprop keeps 0.9 of the old average, and takes 0.1 of the new square.")
    if _is_rounded_too_far(given[1], rmsprop, decimals=4):
        return Wrong("right for Adam. RMSprop's is nearly right: round to four decimals, and no further.")
    return Wrong("right for Adam. RMSprop: rate * g / sqrt(0.1 * g**2).")


class _Memory(UserDict):
    """An optimizer's memory: zero until it is set. (`call` copies a dict, and so would forget what is remembered.)"""

    def __missing__(self, key):
        return 0.0


def _nesterov_path(gradients, rate, look_ahead=True, ahead=0.9, keep=0.9):
    kept, path = 0.0, []
    for gradient in gradients:
        kept = keep * kept - rate * gradient
        path.append(ahead * kept - rate * gradient if look_ahead else kept)
    return np.array(path)


@exercise(
    "07.nesterov",
    hints=[
        'Begin as `momentum` does: update memory["step"]. Then compute what is returned from it; do not store that.',
        'The step is 0.9 * memory["step"] - rate * gradient, with the memory that has just been updated.',
    ],
    solution="""
def nesterov(gradient, memory, rate, keep=0.9):
    memory["step"] = keep * memory["step"] - rate * gradient
    return keep * memory["step"] - rate * gradient
""",
)
def nesterov(answer):
    """A function (gradient, memory, rate) -> step of Nesterov's momentum, with 0.9 kept."""
    gradients, rate, memory = np.random.default_rng(7).normal(size=(6, 3)), 0.1, _Memory()
    given = np.array([_array(call(answer, g, memory, rate), (3,), name_of(answer)) for g in gradients])
    right = _nesterov_path(gradients, rate)

    def same(one, other):
        return first_difference(np.ravel(one), np.ravel(other)) is None

    if same(given, right):
        return Right()
    if same(given, -right):
        return Wrong("the sign: a step goes *against* the gradient.")
    if same(given, -rate * gradients):
        return Wrong("these are the steps of plain SGD: nothing is remembered.")
    if same(given, _nesterov_path(gradients, rate, look_ahead=False)):
        return Wrong("these are the steps of `momentum`. The step that is taken is one update ahead of the memory.")
    if same(given[0], right[0]):
        if "step" not in memory:
            return Wrong('the first step is right, a later one is not: keep the memory in memory["step"].')
        return Wrong("the first step is right, a later one is not: store the memory, not the step that is returned.")
    if same(given[0], _nesterov_path(gradients, rate, ahead=1.0)[0]):
        return Wrong("the new memory, too, is multiplied by 0.9 in the step.")
    if same(given[0], 0.9 * -rate * gradients[0]):
        return Wrong("after 0.9 times the memory, the step goes along rate times gradient once more.")
    if same(given[0], -rate * gradients[0]):
        return Wrong("the step has to use the *new* memory, not the old one: update it first.")
    return Wrong("even the first step is not right. From an empty memory, it is -1.9 * rate * gradient.")


number_exercise(
    "07.stable",
    question="The largest stable rate of gradient descent where the curvatures are 1 and 100.",
    right=0.02,
    wrong={
        0.01: "at 1 / curvature, one step lands at 0 exactly. It may overshoot, as long as it comes nearer.",
        2: "that is the limit of the gentle axis. The steep one runs away long before.",
        1: "the steep axis runs away long before.",
        0.2: "that is 2 divided by 10. The curvature is 100, although its root is 10.",
        200: "2 *divided* by the curvature.",
        0.002: "one zero too many: 2 / 100.",
        0.0002: "two zeros too many: 2 / 100.",
        100: "that is the curvature. Which rate makes |1 - rate * 100| smaller than 1?",
        2 / 101: "that is the rate at which both axes shrink equally fast, a little below the limit.",
        0.04: "height is *half* of 100 y squared, so the gradient is 100 y, and not 50 y.",
    },
    otherwise="y shrinks if 1 - rate * curvature lies between -1 and 1; for the steep axis, too.",
    hints=[
        "A step makes (1 - rate * c) * y of y. How large may the factor be, with either sign?",
        "|1 - rate * c| < 1 means: rate * c lies between 0 and 2. Which c is the strictest?",
    ],
    solution="""
# Below this rate, |1 - rate * 100| < 1. The axis with curvature 1 would bear a rate of 2.
answer = 2 / 100
""",
    tolerance=1e-6,
)


@exercise(
    "07.squared-error-gradient",
    hints=[
        "First the gradient at the probabilities: 2 * (p - y) / 10. Then the chain rule: sum over i.",
        "With g for that first gradient: sum over i of g[i] * p[i] * (delta_ij - p[j]) = p[j] * (g[j] - sum(g * p)).",
    ],
    solution="""
def squared_error_gradient(p, y):
    g = 2 * (p - y) / 10
    return p * (g - np.sum(g * p))
""",
)
def squared_error_gradient(answer):
    """A function (p, y) -> gradient of the mean squared error at the logits."""
    rng = np.random.default_rng(7)
    for _ in range(3):
        p, y = rng.dirichlet(np.ones(10)), np.eye(10)[rng.integers(10)]
        given, g = _array(call(answer, p, y), (10,), name_of(answer)), 2 * (p - y) / 10
        right = p * (g - np.sum(g * p))
        if first_difference(given, right) is not None:
            return _wrong_gradient(given, right, p, y)
    return Right()


def _wrong_gradient(given, right, p, y):
    g = 2 * (p - y) / 10
    known = [
        (p - y, "that is the gradient of cross-entropy."),
        (g, "that is the gradient at the *probabilities*. The softmax comes between them and the logits."),
        (-right, "the sign: it should point uphill, to a larger error."),
        (10 * right, "the error is the mean over ten outputs, so divide by 10."),
        (right / 2, "the derivative of a square has a factor of 2."),
        (5 * right, "it lacks the factor 2 of the square, and the division by 10 of the mean."),
        (g * p * (1 - p), "each probability depends on *all* logits: the terms with i other than j are missing."),
        (p * g, "p * g is one half of it: delta_ij is there, and - p_j is missing."),
    ]
    said = (feedback for wrong, feedback in known if first_difference(given, wrong) is None)
    otherwise = "the ten numbers are not right. With g = 2 * (p - y) / 10: sum over i of g_i p_i (delta_ij - p_j)."
    return Wrong(next(said, otherwise))


@exercise(
    "07.know-nothing",
    hints=[
        "Cross-entropy asks for the right digit only: -ln 0.1. Binary: one output should be 1, nine should be 0.",
        "Binary: -(ln 0.1 + 9 * ln 0.9) / 10.",
    ],
    solution="""
# One output should be 1, nine should be 0: a mean over ten questions, of which nine are easy.
answer = (-np.log(0.1), -(np.log(0.1) + 9 * np.log(0.9)) / 10)
""",
)
def know_nothing(answer):
    """Cross-entropy and binary cross-entropy of ten times 0.1."""
    given = several(answer, 2)
    one, nine = -math.log(0.1), -math.log(0.9)
    binary = (one + 9 * nine) / 10
    if _about(given[0], one) and _about(given[1], binary):
        return Right()
    if _about(given[0], binary) and _about(given[1], one):
        return Wrong("right numbers, wrong order: cross-entropy first.")
    if min(given) < 0:
        return Wrong("losses are not negative: there is a minus sign in front.")
    if _about(given[0], 1) or _about(given[0], math.log2(10)):
        return Wrong("the logarithm is the natural one, np.log.")
    if _about(given[0], one / 10):
        return Wrong("cross-entropy is a sum over the ten outputs, not a mean: the right digit's term is left of it.")
    if _is_rounded_too_far(given[0], one, decimals=3) and not _about(given[0], one):
        return Wrong("cross-entropy is nearly right, but rounded too far: give three decimals.")
    if not _about(given[0], one):
        return Wrong("not right for cross-entropy: it is -ln of the probability of the right digit.")
    known = [
        (one + 9 * nine, "take the *mean* over the ten outputs."),
        (one / 10, "the nine outputs that should be 0 count, too, with -ln(1 - 0.1)."),
        (math.log(2), "ln 2 would be the loss of an answer of 0.5; here it is 0.1."),
        ((nine + 9 * one) / 10, "you swapped the one output that should be 1 with the nine others."),
        (binary / math.log(10), "the logarithm is the natural one, np.log."),
        (binary / math.log(2), "the logarithm is the natural one, np.log."),
    ]
    for mistake, feedback in known:
        if _about(given[1], mistake):
            return Wrong(f"right for cross-entropy. Binary: {feedback}")
    if _is_rounded_too_far(given[1], binary, decimals=3):
        return Wrong("right for cross-entropy. Binary is nearly right, but rounded too far: give three decimals.")
    return Wrong("right for cross-entropy. Binary: one term is -ln 0.1, nine are -ln 0.9; take the mean.")


number_exercise(
    "07.floor",
    question="The cross-entropy that a double softmax reports for a perfect network.",
    right=-math.log(math.e / (math.e + 9)),
    wrong={
        0: "that would be the floor with one softmax. The second one takes 1 and 0 for logits.",
        math.log(10): "that is a network that knows nothing. The second softmax gives the right digit more than that.",
        math.e / (math.e + 9): "that is the probability that the second softmax gives. The loss is its -ln.",
        math.log(math.e / (math.e + 9)): "the sign: a loss is minus the logarithm.",
        -math.log10(math.e / (math.e + 9)): "the logarithm is the natural one, np.log.",
        -math.log(math.e / (math.e + 10)): "there are *nine* other digits; e to the power of 0 is 1 for each.",
        -math.log(1 / (math.e + 9)): "that is the loss of a wrong digit. The right one has e on top.",
        -math.log(math.e / 10): "below the line are e for the right digit and 1 for each of the nine others.",
        1.5: "nearly right, but rounded too far: give three decimals.",
        -1: "that leaves out the sum below the line: e + 9.",
    },
    otherwise="take the softmax of the ten numbers 1, 0, 0, ..., 0, and -ln of its first.",
    hints=[
        "The second softmax gets 1, 0, 0, ..., 0. What does it make of the 1?",
        "e / (e + 9 * 1). And the loss is minus the natural logarithm of that.",
    ],
    solution="""
# The second softmax gives the right digit less than a quarter.
answer = -np.log(np.e / (np.e + 9))
""",
    tolerance=ABOUT,
)


@exercise(
    "07.dropped",
    hints=[
        "Accuracy takes the largest of each row. Precision and recall look at each number: is it above 0.5?",
        "Above 0.5 are 0.9, 0.7 and 0.8. Two of these three belong to the right class. Four images have a right class.",
    ],
    solution="""
# Images 1, 2 and 4 are right. Three numbers are above a half, two of them rightly.
# Two of four right classes are found: image 2 is dropped, and image 3 is a mistake.
answer = (3 / 4, 2 / 3, 2 / 4)
""",
)
def dropped(answer):
    """Accuracy, precision and recall of four answers, the latter two at 0.5."""
    accuracy, precision, recall = several(answer, 3)

    def is_two_thirds(value):
        return abs(value - 2 / 3) < 0.007  # 0.67, and 0.66

    if _about(accuracy, 0.75) and is_two_thirds(precision) and _about(recall, 0.5):
        return Right()
    if _about(accuracy, 0.75) and _about(precision, 0.5) and is_two_thirds(recall):
        return Wrong("precision and recall are swapped: precision divides by what was called, recall by what there is.")
    if max(accuracy, precision, recall) > 1:
        return Wrong("give shares between 0 and 1.")
    if _about(accuracy, 0.5):
        return Wrong("accuracy takes the largest number of each row, also where it is only 0.4.")
    if not _about(accuracy, 0.75):
        return Wrong("not right for accuracy: in how many rows is the largest number in the right place?")
    if _about(precision, 0.75) and _about(recall, 0.75):
        return Wrong("they would all be equal if every answer counted. Keras drops what is not above a half.")
    if _about(precision, 0.75):
        return Wrong("right for accuracy. Precision counts only numbers above a half; the 0.4 is not among them.")
    if _about(precision, 0.5):
        return Wrong("right for accuracy. Precision divides by the number of yeses, which is three, not by the images.")
    if precision in (0.6, 0.7):
        return Wrong("right for accuracy. Precision is nearly right, but rounded too far: give two decimals.")
    if not is_two_thirds(precision):
        return Wrong("right for accuracy. Precision: which numbers are above a half, and how many of these are right?")
    if _about(recall, 0.75):
        return Wrong("right up to recall. The answer with 0.4 is no hit: it is not above a half.")
    if is_two_thirds(recall):
        return Wrong("right up to recall. It divides by all that there is to find: four images.")
    return Wrong("right up to recall: hits divided by the number of images.")


@exercise(
    "07.threshold-for",
    hints=[
        "Only the scores of the nines matter. Sort them, the highest first. How many of them do you have to reach?",
        "k = ceil(recall * number of nines). The threshold is the k-th highest score of a nine.",
    ],
    solution="""
def threshold_for(recall, scores, is_nine):
    of_nines = np.sort(scores[is_nine])[::-1]
    k = int(np.ceil(recall * len(of_nines)))
    return of_nines[k - 1]
""",
)
def threshold_for(answer):
    """A function (recall, scores, is_nine) -> the highest threshold that finds this share of the nines."""
    rng = np.random.default_rng(7)
    scores, is_nine = rng.permutation(np.arange(60) * 11 + 200) / 1000, np.arange(60) % 3 == 0  # 20 nines
    recalls = (0.5, 0.95, 0.52, 0.3, 1.0)
    given = []
    for recall in recalls:
        given.append(float(_array(call(answer, recall, scores, is_nine), (), name_of(answer))))

    def highest(of, rounded=math.ceil):
        """For each recall: the score down to which this share of the scores `of` is reached."""
        ordered = np.sort(of)[::-1]
        return [ordered[max(0, rounded(recall * len(ordered)) - 1)] for recall in recalls]

    close = 5e-7  # float32 is near enough

    def same(other):
        return np.allclose(given, other, rtol=0, atol=close)

    nines = scores[is_nine]
    if same(highest(nines)):
        return Right()
    if same(highest(scores)):
        return Wrong("that is a share of *all* scores. Recall is about the nines only.")
    if same(highest(scores[~is_nine])):
        return Wrong("these are the scores of all that are no nine. Recall is about the nines.")
    if same(-np.array(highest(-nines))):
        return Wrong("sorted the wrong way: the highest scores are reached first.")
    if same(highest(nines, rounded=math.floor)):
        return Wrong("for a recall of 0.52, 10.4 of 20 nines are needed: round up, not down.")
    for recall, value, best in zip(recalls, given, highest(nines), strict=True):
        needed, found = math.ceil(recall * 20), int(np.sum(nines >= value - close))
        if found < needed:
            return Wrong(f"for a recall of {recall:g} it finds {found} of 20 nines, and has to find {needed}.")
        if found > needed:
            return Wrong(
                f"for a recall of {recall:g} it finds {found} of 20 nines. A higher threshold still finds {needed}."
            )
        if not abs(value - best) <= close:
            return Wrong(
                f"for a recall of {recall:g} the right {found} of 20 nines are found, but the threshold could be "
                "higher: up to the score of the last one that is needed."
            )
    return Wrong("the threshold is the score of the last nine that is needed, the highest first.")
