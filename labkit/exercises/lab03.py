"""Exercises of lab 03: early stopping."""

import math

import numpy as np

from labkit.exercises.core import call, exercise, number, number_exercise, prediction, several

prediction("03.best-epoch", "after which epoch is the validation loss lowest, from 1 to 40?", low=1, high=40)
prediction("03.by-heart", "which share of the wrong labels is learned by heart, from 0 to 1?", low=0, high=1)
prediction("03.clean-gain", "which test accuracy with stopping, minus that without?", low=-1, high=1)


@exercise(
    "03.stop",
    hints=[
        "Go from left to right, and keep a note of the best loss so far and of how long ago it was.",
        "At 0.65 in epoch 5 the best moves for the last time. Is the 0.65 of epoch 7 lower?",
    ],
    solution="(5, 7). Epoch 5 is the best; epoch 6 is worse, and epoch 7 equal, which is not better: two in a row.",
)
def stop(answer):
    """Patience 2, min_delta 0: which epoch is restored, and which is the last?"""
    restored, last = several(answer, 2)
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
    if last != 7:
        return "the restored epoch is right. Training ends with the second epoch in a row that is not better."


@exercise(
    "03.min-delta",
    hints=[
        "Better means: lower than the best by more than 0.1. From 0.90 to 0.70 is better.",
        "The best stays at 0.70 in epoch 2. Are 0.72 and 0.66 lower than that by more than 0.1?",
    ],
    solution="(2, 4). After 0.70, neither 0.72 nor 0.66 is lower by more than 0.1: two in a row. Epoch 4 was lower, "
    "but it is not restored.",
)
def min_delta(answer):
    """The same with a min_delta of 0.1."""
    restored, last = several(answer, 2)
    if (restored, last) == (4, 2):
        return "right numbers, wrong order: first the epoch that is restored."
    if (restored, last) == (5, 7):
        return "that is the answer without min_delta. Now only more than 0.1 counts as better."
    if (restored, last) == (1, 3):
        return "you counted from 0, or took 0.70 for no improvement on 0.90; it is one, by 0.2."
    if restored == 4:
        return "epoch 4 is lower than epoch 2, but not by more than 0.1: the best does not move, so it is not restored."
    if restored != 2:
        return f"epoch {restored:g} does not become the best: by how much is it lower than the best before it?"
    if last == 8:
        return "the restored epoch is right. Training is over long before 0.60: two in a row come first."
    if last != 4:
        return "the restored epoch is right. Count the epochs after it that are not lower by more than 0.1."


@exercise(
    "03.stopped-epoch",
    hints=[
        "Lines are numbered from 1. From which number does Keras count in `stopped_epoch`?",
        "Three epochs in a row were not better: those of lines 10, 11 and 12.",
    ],
    solution="(11, 9). The twelfth epoch is number 11 when counted from 0. The best one came three lines before the "
    "last, and its weights were restored.",
)
def stopped_epoch(answer):
    """Twelve lines with patience 3: what is in stopped_epoch, and which line is restored?"""
    stopped, line = several(answer, 2)
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
    if line != 9:
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
    solution="0.2 * 0.10 + 0.3 * 0.05 + 0.5 * 0.03 = 0.05. The first bin is underconfident, the others are over.",
)

number_exercise(
    "03.never-stops",
    question="The largest steady fall per epoch at which patience 4 and min_delta 1e-3 still stop.",
    right=0.00025,
    wrong={
        0.001: "that is min_delta. But the best stays where it is while patience runs: falls add up over four epochs.",
        0.004: "the falls add up over the epochs of patience, so each may be smaller than min_delta, not larger.",
        0.0002: "close: four epochs of waiting, and the fourth decides. So four falls count, not five.",
        1e-3 / 3: "close: the fourth epoch after the best decides, so four falls have to stay within min_delta.",
        0: "a loss that sinks very slowly stops the rule as well, since it asks for more than min_delta.",
        0.00002: "fifty epochs do not matter here: the rule looks back only as far as its patience.",
    },
    otherwise="how far has the loss sunk in the four epochs after the best? Compare with min_delta.",
    hints=[
        "The rule stops in the fourth epoch after the best, if that one is not lower by more than min_delta.",
        "After four epochs, the loss has sunk by four times the amount. Set that equal to 1e-3.",
    ],
    solution="1e-3 / 4 = 0.00025. After four epochs the falls add up to min_delta, and only more than it is better.",
)


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
    cases = ([2.0, 1.0, 1.5], [4.0, 5.0, 8.0], [3.0, 2.0, 2.5, 2.2], [0.5, 0.4])
    given = [number(call(answer, list(losses))) for losses in cases]

    def same(formula):
        return np.allclose(given, [formula(losses) for losses in cases], rtol=1e-6, atol=1e-9)

    if same(lambda e: 100 * (e[-1] / min(e) - 1)):
        return None
    if same(lambda e: e[-1] / min(e) - 1):
        return "that is a fraction. Prechelt's measure is in percent."
    if same(lambda e: 100 * e[-1] / min(e)):
        return "you left out the - 1: at the lowest loss itself, it is 0."
    if same(lambda e: 100 * (e[-1] / e[0] - 1)):
        return "compare with the lowest loss so far, and not with the first."
    if same(lambda e: 100 * (e[-1] / e[-2] - 1)):
        return "compare with the lowest loss so far, and not with that of the epoch before."
    if same(lambda e: 100 * (e[-1] / max(e) - 1)):
        return "compare with the lowest loss so far; that is the highest."
    if same(lambda e: 100 * (min(e) / e[-1] - 1)):
        return "the fraction is upside down: today's loss over the lowest."
    if same(lambda e: 100 * (e[-1] - min(e))):
        return "that is a difference. Divide by the lowest loss."
    return f"for the losses 2, 1, 1.5 it gives {given[0]:g}; 1.5 is half above the lowest, so it should be 50."


@exercise(
    "03.report",
    hints=[
        "Which epoch does early stopping hand over? It sees validation numbers only.",
        "That epoch has two numbers. One of them has chosen it.",
    ],
    solution="0.974: the test accuracy of the epoch that was best by validation. 0.976 would be chosen by the test "
    "set, and 0.981 was chosen for being high.",
)
def report(answer):
    """Which of four accuracies is reported?"""
    value = number(answer)
    if math.isclose(value, 0.974):
        return None
    if math.isclose(value, 0.981):
        return "this score chose the epoch: it is the luckiest of forty, and flatters."
    if math.isclose(value, 0.976):
        return "then the test set chooses the epoch, and its score flatters. Early stopping does not see it."
    if math.isclose(value, 0.979):
        return "that is a validation score, and of an epoch that early stopping does not hand over."
    if math.isclose(value, 0.975):
        return "no mean over epochs: one network is handed over, and it has one test accuracy."
    if math.isclose(value, 97.4):
        return "the right one, but keep it as a fraction, as your friend does."
    return "it is one of the friend's four numbers."
