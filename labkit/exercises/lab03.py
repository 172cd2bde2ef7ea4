"""Exercises of lab 03: early stopping."""

import math

import numpy as np

from labkit.exercises.core import (
    Right,
    Wrong,
    apart,
    call,
    exercise,
    first_difference,
    number,
    number_exercise,
    prediction,
    several,
)

prediction("03.best-epoch", "after which epoch is the validation loss lowest, from 1 to 40?", low=1, high=40)
prediction("03.by-heart", "which share of the wrong labels is learned by heart, from 0 to 1?", low=0, high=1)
prediction("03.clean-gain", "which test accuracy with stopping, minus that without?", low=-1, high=1)


@exercise(
    "03.stop",
    hints=[
        "Go from left to right, and keep a note of the best loss so far and of how long ago it was.",
        "At 0.65 in epoch 5 the best moves for the last time. Is the 0.65 of epoch 7 lower?",
    ],
    solution="""
# Epoch 5 is the best; epoch 6 is worse, and epoch 7 equal, which is not better: two in a row.
answer = (5, 7)
""",
)
def stop(answer):
    """Patience 2, min_delta 0: which epoch is restored, and which is the last?"""
    restored, last = several(answer, 2)
    if (restored, last) == (5, 7):
        return Right()
    return Wrong(_about_stop(restored, last))


def _about_stop(restored, last):
    if (restored, last) == (7, 5):
        return "right numbers, wrong order: first the epoch that is restored."
    if (restored, last) == (4, 6):
        return "you counted from 0. Count from 1, as the exercise does."
    if restored == 8 or last == 8:
        return "training never gets to epoch 8. Are epochs 6 and 7 better than the best so far?"
    if restored == 2:
        return "epoch 3 is worse than epoch 2, but epoch 4 is better again: one bad epoch is not yet two in a row."
    if restored == 7:
        return "0.65 again is not lower than 0.65: the first of the two stays the best."
    if restored != 5:
        return f"the best loss seen before the stop is not in epoch {restored:g}."
    if last == 6:
        return "the restored epoch is right. A patience of 2 waits for a second epoch that is not better."
    if last == 5:
        return "the restored epoch is right. But the rule cannot know it then: it waits for two that are not better."
    return "the restored epoch is right. Training ends with the second epoch in a row that is not better."


@exercise(
    "03.min-delta",
    hints=[
        "Better means: lower than the best by more than 0.1. From 0.90 to 0.70 is better.",
        "The best stays at 0.70 in epoch 2. Are 0.72 and 0.66 lower than that by more than 0.1?",
    ],
    solution="""
# After the 0.70 of epoch 2, neither 0.72 nor 0.66 is lower by more than 0.1: two in a row.
# Epoch 4 was lower than epoch 2, but it is not restored.
answer = (2, 4)
""",
)
def min_delta(answer):
    """The same with a min_delta of 0.1."""
    restored, last = several(answer, 2)
    if (restored, last) == (2, 4):
        return Right()
    return Wrong(_about_min_delta(restored, last))


def _about_min_delta(restored, last):
    if (restored, last) == (4, 2):
        return "right numbers, wrong order: first the epoch that is restored."
    if (restored, last) == (5, 7):
        return "that is the answer without min_delta. Now only more than 0.1 counts as better."
    if (restored, last) == (1, 3):
        return "you counted from 0, or took 0.70 for no improvement on 0.90; it is one, by 0.2."
    if restored == 1:
        return "epoch 1 does not stay the best: epoch 2 is lower by 0.2, which is more than 0.1."
    if restored == 4:
        return "epoch 4 is lower than epoch 2, but not by more than 0.1: the best does not move, so it is not restored."
    if restored == 8 or last == 8:
        return "training is over long before the 0.60 of epoch 8: two in a row that are not better come first."
    if restored != 2:
        return f"the best does not move to epoch {restored:g}: is it lower by more than 0.1 than the best before it?"
    return "the restored epoch is right. Count the epochs after it that are not lower by more than 0.1."


@exercise(
    "03.stopped-epoch",
    hints=[
        "Lines are numbered from 1. From which number does Keras count in `stopped_epoch`?",
        "Three epochs in a row were not better: those of lines 10, 11 and 12.",
    ],
    solution="""
# The twelfth epoch is number 11 when counted from 0. The best one came three lines before the last,
# and its weights were restored.
answer = (11, 9)
""",
)
def stopped_epoch(answer):
    """Twelve lines with patience 3: what is in stopped_epoch, and which line is restored?"""
    stopped, line = several(answer, 2)
    if (stopped, line) == (11, 9):
        return Right()
    return Wrong(_about_stopped_epoch(stopped, line))


def _about_stopped_epoch(stopped, line):
    if (stopped, line) == (9, 11):
        return "right numbers, wrong order: stopped_epoch comes first."
    if stopped == 12:
        return "the twelfth epoch is the last, but Keras counts from 0 in stopped_epoch."
    if stopped == 0:
        return "0 would mean that the rule never fired. It stopped after 12 of 50 epochs."
    if stopped in (8, 9):
        return "stopped_epoch is where training stopped, not the epoch that was best: that one is in best_epoch."
    if stopped != 11:
        return "stopped_epoch belongs to the last line, and counts from 0."
    if line == 8:
        return "stopped_epoch is right. Lines are numbered from 1, so the best one has a number that is higher by one."
    if line == 12:
        return "stopped_epoch is right. With restore_best_weights you do not hold the last network."
    if line == 10:
        return "stopped_epoch is right. Line 10 is already the first of three that are not better."
    return "stopped_epoch is right. Three lines in a row were not better; the best one is just before them."


number_exercise(
    "03.ece",
    question="The ECE of a hundred answers in three bins.",
    right=0.05,
    wrong={
        0.01: "distances have no sign: in the first bin the network is better than it says, and that counts as well.",
        -0.01: "distances have no sign: take the absolute value in each bin.",
        0.06: "that is the plain mean over the bins. Each bin counts by its number of answers.",
        0.18: "that is the sum over the bins. Weigh each by its share of the answers.",
        0.1: "that is the largest distance. The ECE averages over the bins.",
        0.8: "that is the accuracy. The ECE compares it, bin by bin, with the confidence.",
        5: "that is the sum of answers times distances, or a percentage. Divide by 100.",
        0.81: "that is the mean confidence. The ECE compares it, bin by bin, with the share that is right.",
    },
    otherwise="in each bin: right answers / answers, minus the mean confidence, without its sign; then weigh and add.",
    hints=[
        "The shares that are right: 13/20, 21/30 and 46/50. How far is each from the mean confidence?",
        "The distances are 0.10, 0.05 and 0.03. The bins weigh 0.2, 0.3 and 0.5.",
    ],
    solution="""
# In the first bin, more answers are right than the network says; in the other two, fewer.
answer = 0.2 * 0.10 + 0.3 * 0.05 + 0.5 * 0.03
""",
    tolerance=1e-6,
)


@exercise(
    "03.never-stops",
    hints=[
        "The rule stops in the fourth epoch after the best, if that one is not lower by more than min_delta.",
        "After four epochs, the loss has sunk by four times the amount. Set that equal to 1e-3.",
    ],
    solution="""
# After four epochs the falls add up to min_delta, and only more than it counts as better.
answer = 1e-3 / 4
""",
)
def never_stops(answer):
    """The largest steady fall per epoch at which patience 4 and min_delta 1e-3 still stop."""
    fall = number(answer)
    if math.isclose(fall, 0.00025, rel_tol=1e-6):
        return Right()
    return Wrong(_about_never_stops(fall))


def _about_never_stops(fall):
    if fall < 0:
        return "with a minus sign the loss rises. The question is how fast it may sink."
    if math.isclose(fall, 0.001, rel_tol=1e-6):
        return "that is min_delta. But the best stays where it is while patience runs: falls add up over four epochs."
    if math.isclose(fall, 0.004, rel_tol=1e-6):
        return "the falls add up over the epochs of patience, so each may be smaller than min_delta, not larger."
    if math.isclose(fall, 0.0002, rel_tol=0.02):
        return "close: four epochs of waiting, and the fourth decides. So four falls count, not five."
    if math.isclose(fall, 1e-3 / 3, rel_tol=0.02):
        return "close: the fourth epoch after the best decides, so four falls have to stay within min_delta."
    if math.isclose(fall, 0.00002, rel_tol=1e-6):
        return "fifty epochs do not matter here: the rule looks back only as far as its patience."
    if fall == 0:
        return "a loss that sinks very slowly stops the rule as well, since it asks for more than min_delta."
    if fall < 0.00025:
        return "with this fall the rule stops, but so it does with a somewhat larger one. The question is the largest."
    return "with this fall, four epochs lower the loss by more than min_delta: the best moves on, and the rule waits."


# Losses so far, of which none but the first gives a whole number; then what a student may have written, and what is
# wrong with it.
_LOSSES = ([2.0, 1.0, 1.5], [0.4, 0.5, 0.83], [3.0, 2.0, 2.5, 2.21], [0.51, 0.43, 0.4312], [0.57, 0.43])
_MISTAKES = (
    (lambda e: e[-1] / min(e) - 1, "that is a fraction. Prechelt's measure is in percent."),
    (lambda e: 100 * e[-1] / min(e), "you left out the - 1: at the lowest loss itself, it is 0."),
    (lambda e: 100 * (e[-1] / e[0] - 1), "compare with the lowest loss so far, and not with the first."),
    (
        lambda e: 100 * (e[-1] / e[-2] - 1),
        "compare with the lowest loss so far, and not with the epoch before.",
    ),
    (lambda e: 100 * (e[-1] / max(e) - 1), "compare with the lowest loss so far; that is the highest."),
    (lambda e: 100 * (min(e) / e[-1] - 1), "the fraction is upside down: today's loss over the lowest."),
    (
        lambda e: 100 * (1 - e[-1] / min(e)),
        "the sign is turned round: above the lowest loss, it is positive.",
    ),
    (lambda e: 100 * (e[-1] - min(e)), "that is a difference. Divide by the lowest loss."),
    (
        lambda e: 100 * (e[-1] / min(e[:-1]) - 1),
        "the lowest loss so far may be today's: then the measure is 0, and not negative.",
    ),
)


def _generalization_loss(losses):
    return 100 * (losses[-1] / min(losses) - 1)


@exercise(
    "03.generalization-loss",
    hints=[
        "`losses[-1]` is today's loss, and `min(losses)` the lowest so far.",
        "Divide the first by the second, take 1 away, and multiply by 100.",
    ],
    solution="""
def generalization_loss(losses):
    return 100 * (losses[-1] / min(losses) - 1)
""",
)
def generalization_loss(answer):
    """A function: Prechelt's generalization loss, from the losses so far."""
    given = [number(call(answer, list(losses))) for losses in _LOSSES]
    right = [_generalization_loss(losses) for losses in _LOSSES]
    for mistake, said in _MISTAKES:
        if first_difference(given, [mistake(losses) for losses in _LOSSES]) is None:
            return Wrong(said)
    at = first_difference(given, right)
    if at is not None:
        one, other = apart(given[at], right[at])
        rounded = any(np.allclose(given, np.round(right, digits), rtol=0, atol=1e-9) for digits in range(4))
        if rounded:
            return Wrong(f"for the losses {_listed(at)} it gives {one}, and exactly it is {other}: do not round.")
        return Wrong(f"for the losses {_listed(at)} it gives {one}; it should be {other}.")
    first = number(call(answer, [0.7]))  # after the first epoch
    if not abs(first) <= 1e-6:
        return Wrong(f"after one epoch, whose loss is the lowest so far, it gives {first:g}; it should be 0.")
    return Right()


def _listed(at):
    return ", ".join(f"{loss:g}" for loss in _LOSSES[at])


@exercise(
    "03.report",
    hints=[
        "Which epoch does early stopping hand over? It sees validation numbers only.",
        "That epoch has two numbers. One of them has chosen it.",
    ],
    solution="""
# The test accuracy of the epoch that was best by validation. 0.976 would be chosen by the test set,
# and 0.981 was chosen for being high.
answer = friend["epoch 31, the best by validation"]["test"]
""",
)
def report(answer):
    """Which of four accuracies is reported?"""
    value = number(answer)
    if value > 1:
        value /= 100  # given as a percentage
    if math.isclose(value, 0.974, abs_tol=1e-5):
        return Right()
    if math.isclose(value, 0.981, abs_tol=1e-5):
        return Wrong("this score chose the epoch: it is the highest of forty, chosen for being high, and flatters.")
    if math.isclose(value, 0.976, abs_tol=1e-5):
        return Wrong("then the test set chooses the epoch, and its score flatters. Early stopping does not see it.")
    if math.isclose(value, 0.979, abs_tol=1e-5):
        return Wrong("that is a validation score, and of an epoch that early stopping does not hand over.")
    if math.isclose(value, 0.975, abs_tol=1e-5):
        return Wrong("no mean over epochs: one network is handed over, and it has one test accuracy.")
    return Wrong("it is one of the friend's four numbers.")
