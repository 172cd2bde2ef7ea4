"""Lab 03's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import numpy as np

CASES = {
    "03.stop": ({}, [(5, 7), [5.0, np.int64(7)]], [
        ((7, 5), "wrong order"), ((4, 6), "counted from 0"), ((8, 8), "never gets to epoch 8"),
        ((2, 4), "one bad epoch"), ((7, 7), "first of the two"), ((1, 3), "not in epoch 1"),
        ((5, 6), "second epoch that"), ((5, 5), "cannot know"), ((5, 9), "ends with the second"), (5, "2 numbers"),
        ((5.5, 7), "not in epoch 5.5"),
    ]),
    "03.min-delta": ({}, [(2, 4), np.array([2, 4])], [
        ((4, 2), "wrong order"), ((5, 7), "without min_delta"), ((1, 3), "by 0.2"), ((4, 6), "does not move"),
        ((5, 6), "does not move to epoch 5"), ((2, 8), "long before"), ((2, 3), "Count the epochs"),
        ((8, 8), "long before"), ((1, 4), "does not stay the best"), ((3, 5), "does not move to epoch 3"),
    ]),
    "03.stopped-epoch": ({}, [(11, 9), [11.0, np.int64(9)]], [
        ((9, 11), "wrong order"), ((12, 9), "counts from 0"), ((0, 9), "never fired"), ((8, 9), "best_epoch"),
        ((10, 9), "belongs to the last line"), ((11, 8), "numbered from 1"), ((11, 12), "do not hold the last"),
        ((11, 10), "first of three"), ((11, 5), "just before them"),
    ]),
    "03.ece": ({}, [0.05, np.float64(0.05), np.float32(0.05), 0.2 * 0.10 + 0.3 * 0.05 + 0.5 * 0.03], [
        (0.01, "no sign: in the first"), (-0.01, "absolute value"), (0.06, "plain mean"), (0.18, "sum over"),
        (0.1, "largest"), (0.8, "accuracy"), (5, "percentage"), (0.81, "mean confidence"), (0.3, "weigh and add"),
    ]),
    "03.never-stops": ({}, [0.00025, 1e-3 / 4, np.float32(0.00025)], [
        (1e-3, "that is min_delta"), (4e-3, "not larger"), (2e-4, "not five"), (1e-3 / 3, "fourth epoch after"),
        (0.00033, "fourth epoch after"), (0.000333, "fourth epoch after"), (0.0003, "more than min_delta"),
        (0, "very slowly"), (2e-5, "fifty epochs"), (7, "more than min_delta"), (0.00024, "somewhat larger"),
        (1e-6, "somewhat larger"), (-0.00025, "minus sign"),
    ]),
    "03.generalization-loss": ({}, [
        lambda e: 100 * (e[-1] / min(e) - 1), lambda e: e[-1] * 100 / np.min(e) - 100,
        lambda e: np.float32(100) * (np.float32(e[-1]) / np.float32(min(e)) - np.float32(1)),
        lambda losses: 100 * (losses[-1] - sorted(losses)[0]) / sorted(losses)[0],
        lambda e: np.array([100 * (e[-1] / min(e) - 1)]),
    ], [
        (lambda e: e[-1] / min(e) - 1, "in percent"), (lambda e: 100 * e[-1] / min(e), "left out the - 1"),
        (lambda e: 100 * (e[-1] / e[0] - 1), "not with the first"),
        (lambda e: 100 * (e[-1] / e[-2] - 1), "the epoch before"), (lambda e: 100 * (e[-1] / max(e) - 1), "highest"),
        (lambda e: 100 * (min(e) / e[-1] - 1), "upside down"), (lambda e: 100 * (e[-1] - min(e)), "difference"),
        (lambda e: 100 * (1 - e[-1] / min(e)), "sign"), (lambda e: 100 * (e[-1] / min(e[:-1]) - 1), "may be today's"),
        (lambda e: round(100 * (e[-1] / min(e) - 1)), "do not round"),
        (lambda e: round(100 * (e[-1] / min(e) - 1), 2), "do not round"),
        (lambda e: 7, "for the losses 2, 1, 1.5 it gives 7; it should be 50"),
        (lambda e: 50 if e[0] == 2 else 7, "for the losses 0.4, 0.5, 0.83 it gives 7"),
        (lambda e: 100 * (e[-1] / min(e) - 1) if len(e) > 1 else 3, "after one epoch"),
        (50, "is a function"), (lambda e: None, "returns nothing"),
    ]),
    "03.report": ({}, [0.974, np.float64(0.974), np.float32(0.974), 97.4], [
        (0.981, "chosen for being high"), (0.976, "test set chooses"), (0.979, "validation score"), (0.975, "no mean"),
        (0.5, "one of the friend's"), (97.6, "test set chooses"),
    ]),
}  # fmt: skip
