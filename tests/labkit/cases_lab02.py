"""Lab 02's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import numpy as np


def penalty(kernels, l2):
    return l2 * sum((kernel**2).sum() for kernel in kernels)


def by_loops(kernels, l2):
    total = 0.0
    for kernel in kernels:
        for weight in kernel.ravel():
            total += l2 * weight * weight
    return total


def by_keras(kernels, l2):
    import keras

    return sum(keras.regularizers.L2(l2)(kernel) for kernel in kernels)


def by_keras_floats(kernels, l2):
    return float(by_keras(kernels, l2))


def in_float32(kernels, l2):
    return np.float32(l2) * sum((kernel.astype("float32") ** 2).sum() for kernel in kernels)


def of_two_kernels(kernels, l2):
    return l2 * ((kernels[0] ** 2).sum() + (kernels[1] ** 2).sum())


def moving(batches, momentum):
    return 5 * (1 - momentum**batches)


def moving_by_steps(batches, momentum):
    average = 0.0
    for _ in range(batches):
        average = momentum * average + (1 - momentum) * 5
    return average


def t(first, second):
    d = np.asarray(second) - np.asarray(first)
    return d.mean() / (d.std(ddof=1) / np.sqrt(len(d)))


def t_by_statistics(first, second):
    import statistics

    d = [b - a for a, b in zip(first, second, strict=True)]
    return statistics.mean(d) / statistics.stdev(d) * len(d) ** 0.5


def t_by_scipy(first, second):
    from scipy import stats

    return stats.ttest_rel(second, first).statistic


def unpaired(first, second):
    a, b = np.asarray(first), np.asarray(second)
    return (b.mean() - a.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))


def spread(first, second, ddof=1):
    return (np.asarray(second) - np.asarray(first)).std(ddof=ddof)


def mean(first, second):
    return (np.asarray(second) - np.asarray(first)).mean()


CASES = {
    "02.rise": ({}, [28, 28.35, 100 * (0.0489 / 0.0381 - 1)], [
        (0.2835, "as a share"), (22.09, "divided by the loss at the end"), (0.0108, "the rise itself"),
        (128.35, "percentage of the best"), (588.7, "with training"), (1.08, "points of loss"), (5, "take the diff"),
        (0.28, "as a share"), (22, "divided by the loss at the end"), (128, "percentage of the best"),
    ]),
    "02.penalty": ({}, [penalty, by_loops, by_keras, by_keras_floats, in_float32], [
        (lambda k, l2: penalty(k, l2) / 2, "half"), (lambda k, l2: l2 * sum(np.abs(w).sum() for w in k), "L1"),
        (lambda k, l2: l2 * penalty(k, 1) ** 0.5, "root"), (lambda k, l2: penalty(k, 1), "lambda out"),
        (lambda k, l2: l2 * sum(w.sum() for w in k) ** 2, "different sign"), (lambda k, l2: penalty(k, l2) / 6, "mean"),
        (lambda k, l2: penalty(k[-1:], l2), "last kernel"), (lambda k, l2: penalty(k[:1], l2), "first kernel"),
        (lambda k, l2: 7.0, "lambda = 0.1, it gives 7; it should be 1.525"), (15.25, "is a function"),
        (lambda k: 1, "stopped with TypeError"), (of_two_kernels, "stopped with IndexError"),
        (lambda k, l2: penalty(k, l2**2), "lambda is in it twice"),
        (lambda k, l2: penalty(k, 0.1), "lambda = 0.003, it gives 1.525; it should be 0.04575"),
        (lambda k, l2: l2 * 15.25, "one kernel with squares that add up to 5.25, and lambda = 0.1, it gives 1.525; it"),
    ]),
    "02.scale": ({}, [4, 3 / 0.75, np.float32(4)], [
        (3, "mean over many"), (2.25, "smaller still"), (12, "divided by the rate"), (0, "switched off"),
        (3.75, "divide by 0.75"), (6, "rate of 0.5"), (5, "share of units that survive"),
    ]),
    "02.moving-mean-after": ({}, [moving, moving_by_steps], [
        (lambda n, m: 5 * m**n, "still to go"), (lambda n, m: 5 * (1 - (1 - m) ** n), "wrong way round"),
        (lambda n, m: 5 * (1 - m) * n, "same step"), (lambda n, m: 1 - m**n, "mean 1"), (lambda n, m: 5, "in the end"),
        (lambda n, m: 5 * (1 - 0.99**n), "0.99 only"), (5, "is a function"),
        (lambda n, m: n + 1, "after 0 batches with momentum 0.99 it gives 1; it should be 0"),
        (lambda n, m: round(moving(n, m), 2), "after 8 batches with momentum 0.9 it gives 2.85; it should be 2.848"),
        (lambda n, m: round(moving(n, m), 1), "after 1 batch with momentum 0.99 it gives 0.1; it should be 0.05"),
        (lambda n, m: 0.05 * n if n < 2 else 9.0, "after 100 batches"),
    ]),
    "02.count": ({}, [(218_698, 640), [218_058 + 640, 2 * 320]], [
        ((640, 218_698), "wrong order"), ((219_338, 640), "all of them"), ((218_058, 640), "come on top"),
        ((218_378, 640), "one number for each"), ((218_718, 660), "output layer"), ((218_000, 1), "218,058 and two"),
        ((218_698, 320), "two moving averages"), ((218_698, 1_280), "two are trained"), ((218_698, 0), "are watched"),
        ((218_698, 660), "not normalized"), ((218_698, 7), "two numbers"), (218_698, "2 numbers"),
    ]),
    "02.paired-t": ({}, [t, t_by_scipy, t_by_statistics], [
        (lambda a, b: -t(a, b), "sign"), (lambda a, b: mean(a, b) / spread(a, b, 0) * len(a) ** 0.5, "ddof=1"),
        (mean, "mean difference"), (lambda a, b: mean(a, b) / spread(a, b), "root of n"), (unpaired, "independent"),
        (lambda a, b: spread(a, b) / len(a) ** 0.5, "standard error"),
        (lambda a, b: 1.0, "for differences of 0.02, 0.01, 0.03, 0.01 it gives 1; t is 3.656"),
        (lambda a, b: abs(t(a, b)), "dropped the sign"),
        (lambda a, b: mean(a, b) / spread(a, b) * 2, "is 2 for four pairs only"),
        (lambda a, b: round(t(a, b), 2), "it gives 3.66; t is 3.656"),
    ]),
    "02.luck": ({}, [0.64, 1 - 0.95**20], [
        (0.05, "single comparison"), (0.3585, "none of them"), (0.3774, "exactly one"), (1, "added the chances"),
        (64.15, "in percent"), (0.05**20, "more likely, not less"), (0.9, "to the power of twenty"),
    ]),
    "02.arrays": ({}, [
        ("gamma", "moving_mean"), ["Gamma", "moving mean"], "gamma, moving_mean", np.array(["gamma", "moving_mean"]),
    ], [
        ({"gamma", "moving_mean"}, "two words in order"), ({"gamma": "moving_mean", "a": "b"}, "two words in order"),
        (("kernel", "kernel"), "without normalization they would be"), (("moving_mean", "gamma"), "wrong order"),
        (("gamma", "beta"), "Beta is [3]"), (("bias", "moving_mean"), "[2] is the first of the four"),
        (("gamma", "moving_variance"), "Which one is first"), (("weights", "x"), "none of the words"),
        ("gamma", "two words"),
    ]),
    "02.positions": ({}, [(0, 6, 12), [0, 6, 12], np.array([0, 6, 12])], [
        ({0, 6, 12}, "in order"),
        ((0, 2, 4), "without normalization"), ((0, 4, 8), "It has four"), ((1, 7, 13), "biases"),
        ((0, 5, 10), "six steps"), ((12, 6, 0), "in order"), ((0, 1, 2), "from 0 on"), (6, "3 numbers"),
    ]),
    "02.discordant": ({}, [26, 26.0], [
        (12, "the difference"), (14, "only A"), (40, "exactly one"), (20, "equally good"), (28, "add up to 40"),
        (52, "only 40"), (5, "a + b = 40"),
    ]),
}  # fmt: skip
