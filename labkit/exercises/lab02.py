"""Exercises of lab 02: regularization, and how to know whether it helped."""

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

# A network that guesses still reads a tenth of the images, so the gap is at most 90 points.
prediction("02.gap", "how many points lie between training and validation accuracy?", low=1, high=90, unit=" points")
prediction("02.nine", "by how many points does BN + dropout raise the test accuracy?", low=-10, high=10, unit=" points")


@exercise(
    "02.rise",
    hints=[
        "How far is 0.0489 above 0.0381? And what part of 0.0381 is that?",
        "100 * (0.0489 - 0.0381) / 0.0381",
    ],
    solution="""
# About 28. In the same epochs the validation accuracy of source B's network hardly moved: from 0.9889 to 0.9894.
answer = 100 * (0.0489 / 0.0381 - 1)
""",
)
def rise(answer):
    """By how many percent does a loss rise from 0.0381 to 0.0489?"""
    value = number(answer)
    if math.isclose(value, 28.35, abs_tol=0.4):
        return Right()
    complaints = {
        0.2835: "as a share that is right; in percent it is a hundred times as much.",
        22.09: "you divided by the loss at the end. It rises *from* the best: divide by 0.0381.",
        128.35: "that is the end as a percentage of the best. How much of it is rise?",
        1.08: "those are points of loss times a hundred. What part of 0.0381 is the rise?",
        0.0108: "that is the rise itself. What part of 0.0381 is it, in percent?",
        588.7: "that compares validation with training. Compare validation at the end with its best.",
    }
    for mistake, complaint in complaints.items():
        if math.isclose(value, mistake, rel_tol=0.02):
            return Wrong(complaint)
    return Wrong("take the difference of the two validation losses, divide it by the smaller one, and multiply by 100.")


@exercise(
    "02.penalty",
    hints=[
        "One kernel first: (kernel**2).sum(). Then add over the kernels.",
        "Multiply the sum by l2 at the end. Is there a factor 1/2 in the formula above?",
    ],
    solution="""
def penalty(kernels, l2):
    return l2 * sum((kernel**2).sum() for kernel in kernels)
""",
)
def penalty(answer):
    """A function: lambda times the sum of all squared weights of a list of kernels."""
    kernels = [np.array([[1.0, -2.0], [0.5, 0.0]]), np.array([[3.0], [-1.0]])]
    cases = ((kernels, 0.1), (kernels, 0.003), (kernels[:1], 0.1))
    given = [number(call(answer, *case)) for case in cases]
    right = [l2 * sum((kernel**2).sum() for kernel in some) for some, l2 in cases]
    at = first_difference(given, right)
    if at is None:
        return Right()

    def same(formula):
        weights = np.array([1, -2, 0.5, 0, 3, -1])
        return first_difference(given[:2], [formula(weights, l2) for _, l2 in cases[:2]]) is None

    complaints = (
        (lambda w, l2: l2 * (w**2).sum() / 2,
         "that is half of it. Some books put a factor 1/2 there; the formula above and Keras do not."),
        (lambda w, l2: l2 * abs(w).sum(),
         "you added the sizes of the weights, not their squares. That is the L1 penalty."),
        (lambda w, l2: l2 * np.sqrt((w**2).sum()), "that is lambda times the root of the sum: leave the root out."),
        (lambda w, l2: l2 * w.sum() ** 2,
         "you added first and squared then, so weights of different sign cancel. Square each weight first."),
        (lambda w, l2: l2 * (w**2).mean(), "that is the mean of the squares. Keras adds them up."),
        (lambda w, l2: l2 * (w[4:] ** 2).sum(), "you took only the last kernel."),
        (lambda w, l2: l2 * (w[:4] ** 2).sum(), "you took only the first kernel: add over all of them."),
        (lambda w, l2: (w**2).sum(), "you left lambda out."),
        (lambda w, l2: ((l2 * w) ** 2).sum(), "lambda is in it twice: multiply once, by lambda itself."),
    )  # fmt: skip
    for formula, complaint in complaints:
        if same(formula):
            return Wrong(complaint)
    some, l2 = cases[at]
    squares = right[at] / l2
    yours, wanted = apart(given[at], right[at])
    of = "one kernel" if len(some) == 1 else f"{len(some)} kernels"
    return Wrong(
        f"for {of} with squares that add up to {squares:g}, and lambda = {l2}, it gives {yours}; it should be {wanted}."
    )


number_exercise(
    "02.scale",
    question="A unit puts out 3. What comes out of Dropout(0.25) in training, if the unit is not switched off?",
    right=4,
    wrong={
        3: "then the mean over many units would drop by a quarter. Look at the colours in the pictures.",
        2.25: "that is 3 * 0.75, which makes it smaller still. The survivors have to stand in for the others.",
        12: "you divided by the rate. The survivors' share is 1 - 0.25.",
        0: "that is what comes out of a unit that is switched off.",
        3.75: "you added a quarter. Three quarters have to carry what four carried: divide by 0.75.",
        6: "that is right for a rate of 0.5. Here it is 0.25.",
    },
    otherwise="divide what the unit puts out by the share of units that survive.",
    hints=[
        "Of four units, three survive. Together they should amount to what four amounted to.",
        "Each survivor is divided by 1 - 0.25.",
    ],
    solution="""
# 4. The mean over many units stays the same, so nothing has to change at inference.
answer = 3 / (1 - 0.25)
""",
)


@exercise(
    "02.moving-mean-after",
    hints=[
        "How far from 5 is it before the first batch, and by which factor does this distance shrink in each step?",
        "The distance is 5 at first, and 5 * momentum**batches later.",
    ],
    solution="""
def moving_mean_after(batches, momentum):
    return 5 * (1 - momentum**batches)
""",
)
def moving(answer):
    """A function: the moving mean after some batches that all have mean 5, from 0."""
    cases = ((0, 0.99), (1, 0.99), (100, 0.99), (8, 0.9))
    given = [number(call(answer, *case)) for case in cases]
    right = [5 * (1 - momentum**batches) for batches, momentum in cases]
    at = first_difference(given, right)
    if at is None:
        return Right()
    complaints = (
        (lambda n, m: 5 * m**n, "that shrinks. It is the distance that is still to go: subtract it from 5."),
        (lambda n, m: 5 * (1 - (1 - m) ** n),
         "you took the two factors the wrong way round: the old average is kept times the momentum."),
        (lambda n, m: 5 * (1 - m) * n,
         "you added the same step each time. But the steps get shorter, as the average comes closer to 5."),
        (lambda n, m: 1 - m**n, "right, for batches with mean 1. Here they have mean 5."),
        (lambda n, m: 5 * (1 - 0.99**n), "it is right for a momentum of 0.99 only. Use the argument."),
        (lambda n, m: 5, "that is where it arrives in the end. After one batch it is still close to 0."),
    )  # fmt: skip
    for formula, complaint in complaints:
        if first_difference(given, [formula(*case) for case in cases]) is None:
            return Wrong(complaint)
    batches, momentum = cases[at]
    yours, wanted = apart(given[at], right[at])
    after = f"{batches} batch{'' if batches == 1 else 'es'}"
    return Wrong(f"after {after} with momentum {momentum} it gives {yours}; it should be {wanted}.")


@exercise(
    "02.count",
    hints=[
        "Gamma and beta: two for each of 256 + 64 units. They come on top of the 218,058.",
        "The moving averages: two for each of 256 + 64 units, too. They are not trained.",
    ],
    solution="""
# (218698, 640): gamma and beta are trained, two averages are not. 219,338 in all, as source E reports.
answer = (218_058 + 2 * (256 + 64), 2 * (256 + 64))
""",
)
def count(answer):
    """Trainable and non-trainable parameters of 784-256-64-10 with two batch normalizations."""
    trainable, rest = several(answer, 2)
    if (trainable, rest) == (218_698, 640):
        return Right()
    if (trainable, rest) == (640, 218_698):
        return Wrong("right numbers, wrong order: the trainable ones come first.")
    complaints = {
        219_338: "that is all of them. Which of them are not trained?",
        218_058: "gamma and beta are trained as well: they come on top.",
        218_378: "you added one number for each normalized unit. There are two that are trained: gamma and beta.",
        218_718: "the output layer is not normalized: leave its ten units out.",
    }
    if trainable != 218_698:
        otherwise = "trainable: 218,058 and two more for each of the 256 + 64 normalized units."
        return Wrong(complaints.get(trainable, otherwise))
    complaints = {
        320: "the first is right. There are two moving averages for each unit: of mean and of variance.",
        1_280: "the first is right. Of four numbers a unit, two are trained. How many are left?",
        0: "the first is right. Two moving averages for each unit are watched, not trained.",
        660: "the first is right. The output layer is not normalized.",
    }
    return Wrong(
        complaints.get(rest, "the first is right. Not trained are two numbers for each of the 256 + 64 units.")
    )


@exercise(
    "02.paired-t",
    hints=[
        "d = np.asarray(second) - np.asarray(first) is the list of differences. What is its mean, and its spread?",
        "The standard error is d.std(ddof=1) / np.sqrt(len(d)). Divide the mean by it.",
    ],
    solution="""
def paired_t(first, second):
    d = np.asarray(second) - np.asarray(first)
    return d.mean() / (d.std(ddof=1) / np.sqrt(len(d)))
""",
)
def paired_t(answer):
    """A function: Student's t of the differences second minus first."""
    pairs = [
        ([0.90, 0.93, 0.95, 0.91], [0.92, 0.94, 0.98, 0.92]),
        ([0.5, 0.8, 0.7, 0.9, 0.2], [0.4, 0.9, 0.6, 0.7, 0.1]),
    ]
    given = [number(call(answer, *pair)) for pair in pairs]
    arrays = [(np.array(first), np.array(second)) for first, second in pairs]

    def t(a, b, ddof=1):
        d = b - a
        return d.mean() / (d.std(ddof=ddof) / np.sqrt(len(d)))

    def unpaired(a, b):
        return (b.mean() - a.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))

    right = [t(*pair) for pair in arrays]
    at = first_difference(given, right)
    if at is None:
        return Right()
    complaints = (
        (lambda a, b: -t(a, b), "the sign is wrong: second minus first is asked for."),
        (lambda a, b: abs(t(a, b)), "you dropped the sign. Where the second is worse, t is negative."),
        (lambda a, b: t(a, b, 0), "the spread of few numbers needs `ddof=1`: divide by n - 1, not by n."),
        (lambda a, b: (b - a).mean(), "that is the mean difference. Divide it by its standard error."),
        (lambda a, b: t(a, b) / np.sqrt(len(a)), "you divided by the spread of the differences. The spread of their "
                                                 "*mean* is smaller by the root of n."),
        (lambda a, b: t(a, b) / np.sqrt(len(a)) * 2, "the root of n is 2 for four pairs only: use the length."),
        (unpaired, "you compared the two lists as if they were independent. Subtract pair by pair first."),
        (lambda a, b: (b - a).std(ddof=1) / np.sqrt(len(a)), "that is the standard error. Divide the mean by it."),
    )  # fmt: skip
    for formula, complaint in complaints:
        if first_difference(given, [formula(*pair) for pair in arrays]) is None:
            return Wrong(complaint)
    yours, wanted = apart(given[at], right[at])
    differences = ", ".join(f"{d:.2f}" for d in arrays[at][1] - arrays[at][0])
    return Wrong(f"for differences of {differences} it gives {yours}; t is {wanted}.")


@exercise(
    "02.luck",
    hints=[
        "How likely is it that a single comparison does not look resolved? And that none of twenty does?",
        "None of twenty: 0.95**20. At least one is the opposite.",
    ],
    solution="""
# About 0.64: more likely than not. One discovery is what to expect, but that does not make it certain.
answer = 1 - 0.95**20
""",
)
def luck(answer):
    """The chance that at least one of twenty idle recipes looks resolved at 1 in 20."""
    value = number(answer)
    if math.isclose(value, 1 - 0.95**20, abs_tol=0.006):
        return Right()
    complaints = {
        0.05: "that is the chance of a single comparison. There are twenty.",
        0.3585: "that is the chance that none of them does. The opposite is asked for.",
        0.3774: "that is the chance that exactly one does. Two or more count as well.",
        64.15: "right, in percent. Give a number between 0 and 1.",
    }
    for mistake, complaint in complaints.items():
        if math.isclose(value, mistake, rel_tol=0.01):
            return Wrong(complaint)
    if value in (1, 20):
        return Wrong("you added the chances. One is what you should *expect*; but it can be none, or three.")
    if value < 0.05:
        return Wrong("more comparisons make a false discovery more likely, not less.")
    return Wrong("take the chance that a comparison stays quiet, 0.95, to the power of twenty; then the opposite.")


ARRAYS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


@exercise(
    "02.arrays",
    hints=[
        "[0] and [1] belong to the Dense layer. Which arrays does the normalization after it hold, in which order?",
        "Gamma, beta, moving_mean, moving_variance: they are [2], [3], [4] and [5].",
    ],
    solution="""
# One scale and one average for each unit: of the three arrays, only [0] holds weights between units.
answer = ("gamma", "moving_mean")
""",
)
def arrays(answer):
    """What are [2] and [4] of a normalized network's arrays?"""
    words = _words(answer)
    if words == ["gamma", "moving_mean"]:
        return Right()
    for word in words:
        if word not in ARRAYS:
            return Wrong(f"{word!r} is none of the words: {', '.join(ARRAYS)}.")
    if words == ["moving_mean", "gamma"]:
        return Wrong("right words, wrong order: [2] first.")
    if words == ["kernel", "kernel"]:
        return Wrong("without normalization they would be. The shapes above have one dimension each; a kernel has two.")
    if words[0] != "gamma":
        return Wrong(
            "[2] is the first of the four arrays of the normalization. It has one number for each unit. Which is it?"
        )
    if words[1] == "beta":
        return Wrong("[2] is right. Beta is [3].")
    return Wrong("[2] is right. After gamma and beta come the two arrays that are not trained. Which one is first?")


def _words(answer):
    """The two words of an answer, in the spelling of ARRAYS. Raises WrongAnswer where it is not two words in order."""
    if isinstance(answer, str):
        answer = answer.split(",")
    if isinstance(answer, (list, tuple, np.ndarray)) and len(answer) == 2:
        return ["_".join(str(word).lower().replace("-", " ").replace("_", " ").split()) for word in answer]
    raise WrongAnswer('the answer is two words in order, such as ("kernel", "bias").')


@exercise(
    "02.positions",
    hints=[
        "Each Dense layer has two arrays, each normalization four.",
        "Dense: 0 and 1. Normalization: 2 to 5. The next Dense layer begins at 6.",
    ],
    solution="""
# (0, 6, 12), found without counting: of all arrays, only kernels have two dimensions.
answer = [i for i, array in enumerate(normalized.get_weights()) if array.ndim == 2]
""",
)
def positions(answer):
    """The positions of the three kernels in get_weights() of a normalized network."""
    given = tuple(several(answer, 3))
    if given == (0, 6, 12):
        return Right()
    if given == (0, 2, 4):
        return Wrong("that is right without normalization. Each normalization puts four arrays in between.")
    if given == (0, 4, 8):
        return Wrong("you counted two arrays for each normalization. It has four: two are trained, two are averages.")
    if given == (1, 7, 13):
        return Wrong("these are the biases; or did you count from 1?")
    if given == (0, 5, 10):
        return Wrong("between two kernels are a bias and four arrays of the normalization: six steps.")
    if sorted(given) == [0, 6, 12]:
        return Wrong("right positions; give them in order.")
    return Wrong("count two arrays for each Dense layer and four for each normalization, from 0 on.")


number_exercise(
    "02.discordant",
    question="A reads 9,800 rightly, B 9,812; on 40 images exactly one is right. How many does only B read?",
    right=26,
    wrong={
        12: "that is the difference. Only A reads some of the 40, too.",
        14: "that is how many only A reads rightly. B is ahead.",
        40: "those are all on which exactly one is right, whichever it is.",
        20: "half of the 40 would make the two equally good. B has twelve more.",
        28: "the two numbers add up to 40, and differ by 12.",
        52: "there are only 40 images on which exactly one of them is right.",
    },
    otherwise="call the counts a and b: a + b = 40, and b - a = 12.",
    hints=["Both right and both wrong cancel in the difference: b - a = 9,812 - 9,800.", "a + b = 40, b - a = 12."],
    solution="""
# b - a = 12 and a + b = 40, so b is half of 52. Only A reads 14. A fair coin is that lopsided every now and then.
answer = (40 + 9_812 - 9_800) / 2
""",
)
