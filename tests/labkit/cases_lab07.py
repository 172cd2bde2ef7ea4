"""Lab 07's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import math

import numpy as np

E = math.e
LN10 = math.log(10)
BINARY = -(math.log(0.1) + 9 * math.log(0.9)) / 10


def nesterov(gradient, memory, rate):
    memory["step"] = 0.9 * memory["step"] - rate * gradient
    return 0.9 * memory["step"] - rate * gradient


def nesterov_in_two_steps(gradient, memory, rate, keep=0.9):
    old = memory["step"]
    memory["step"] = keep * old - rate * gradient
    return memory["step"] + keep * (memory["step"] - old)


def nesterov_in_one_line(gradient, memory, rate):
    memory["step"] = 0.9 * memory["step"] - rate * gradient
    return [0.9 * kept - rate * one for kept, one in zip(memory["step"], gradient, strict=True)]


def with_get(gradient, memory, rate):
    new = 0.9 * memory.get("step", 0) - rate * gradient
    memory.update(step=new)
    return 0.9 * new - rate * gradient


def in_float32(gradient, memory, rate):
    return np.float32(nesterov(np.float32(gradient), memory, rate))


def as_a_row(gradient, memory, rate):
    return nesterov(gradient, memory, rate)[None]


def momentum(gradient, memory, rate):
    memory["step"] = 0.9 * memory["step"] - rate * gradient
    return memory["step"]


def uphill(gradient, memory, rate):
    return -nesterov(gradient, memory, rate)


def stores_what_it_returns(gradient, memory, rate):
    memory["step"] = nesterov(gradient, memory, rate)
    return memory["step"]


def undamped(gradient, memory, rate):
    return momentum(gradient, memory, rate) - rate * gradient


def no_second_gradient(gradient, memory, rate):
    return 0.9 * momentum(gradient, memory, rate)


def old_memory(gradient, memory, rate):
    step = 0.9 * memory["step"] - rate * gradient
    memory["step"] = 0.9 * memory["step"] - 2 * rate * gradient
    return step


def elsewhere(gradient, memory, rate):
    memory["v"] = 0.9 * memory["v"] - rate * gradient
    return 0.9 * memory["v"] - rate * gradient


def forgetful(gradient, memory, rate):
    return nesterov(gradient, {"step": 0.0}, rate)


def at_logits(p, y):
    g = 2 * (p - y) / 10
    return p * (g - np.sum(g * p))


def at_logits_by_matrix(p, y):
    return (np.diag(p) - np.outer(p, p)) @ (p - y) / 5


def at_logits_by_tensorflow(p, y):
    import tensorflow as tf

    z = tf.Variable(np.log(p), dtype="float32")
    with tf.GradientTape() as tape:
        error = tf.reduce_mean((tf.nn.softmax(z) - y.astype("float32")) ** 2)
    return tape.gradient(error, z)


def threshold_for(recall, scores, is_nine):
    of_nines = np.sort(scores[is_nine])
    return of_nines[len(of_nines) - math.ceil(recall * len(of_nines))]


def by_search(recall, scores, is_nine):
    return max(one for one in scores[is_nine] if np.mean(scores[is_nine] >= one) >= recall)


def picked(choose, which=lambda scores, is_nine: scores[is_nine]):
    """A threshold_for that takes another of the scores. choose: (recall, scores, the highest first) -> score."""
    return lambda recall, scores, is_nine: choose(recall, np.sort(which(scores, is_nine))[::-1])


def nth(recall, scores):
    return scores[math.ceil(recall * len(scores)) - 1]


CASES = {
    "07.first-step": ({}, [(0.001, 0.001 / math.sqrt(0.1)), (0.001, 0.0032), np.array([0.001, 0.00316])], [
        ((0.0032, 0.001), "wrong order"), ((0.25, 0.25), "as SGD has it"), ((0.0001, 0.0032), "corrected for that"),
        ((0.0032, 0.0032), "left the correction"), ((0.001, 0.001), "does not correct"), ((0.001, 0.01), "*root*"),
        ((0.001, 0.001 / math.sqrt(0.9)), "takes 0.1"), ((0.5, 0.0032), "not right for Adam"),
        ((0.001, 0.5), "RMSprop: rate"), (0.001, "2 numbers"), ((0.001, 0.003), "round to four"),
    ]),
    "07.nesterov": ({}, [
        nesterov, nesterov_in_two_steps, nesterov_in_one_line, elsewhere, with_get, in_float32, as_a_row,
    ], [
        (uphill, "*against*"), (momentum, "one update ahead"), (stores_what_it_returns, "store the memory"),
        (undamped, "multiplied by 0.9"), (no_second_gradient, "once more"), (old_memory, "*new* memory"),
        (forgetful, "a later one is not"),
        (lambda g, memory, rate: -rate * g, "plain SGD"), (lambda g, memory, rate: -3 * rate * g, "even the first"),
        (lambda g, memory, rate: 0.5, "an array of 3 numbers"),
        (lambda g, memory, rate: g * math.inf, "not finite"), (lambda g, memory, rate: ["a"] * 3, "something else"),
        (7, "is a function"), (lambda g: g, "stopped with TypeError"),
    ]),
    "07.stable": ({}, [0.02, 2 / 100, np.float64(0.02)], [
        (0.01, "overshoot"), (2, "gentle axis"), (1, "steep axis"), (0.2, "divided by 10"), (200, "*divided*"),
        (0.002, "one zero"), (0.0002, "two zeros"), (100, "curvature. Which"), (2 / 101, "equally fast"),
        (0.04, "*half*"), (0.5, "between -1 and 1"),
    ]),
    "07.squared-error-gradient": ({}, [
        at_logits, at_logits_by_matrix, lambda p, y: at_logits(p, y).tolist(), at_logits_by_tensorflow,
        lambda p, y: at_logits(p, y)[None], lambda p, y: np.float32(at_logits(p, y)),
    ], [
        (lambda p, y: p - y, "cross-entropy"), (lambda p, y: (p - y) / 5, "*probabilities*"),
        (lambda p, y: -at_logits(p, y), "the sign"), (lambda p, y: 10 * at_logits(p, y), "divide by 10"),
        (lambda p, y: at_logits(p, y) / 2, "factor of 2"), (lambda p, y: 5 * at_logits(p, y), "lacks the factor 2"),
        (lambda p, y: (p - y) / 5 * p * (1 - p), "*all* logits"), (lambda p, y: p * (p - y) / 5, "one half of it"),
        (lambda p, y: p * y, "ten numbers"),
        (lambda p, y: np.mean((p - y) ** 2), "an array of 10 numbers; yours has the shape ()"),
        (np.outer, "the shape (10, 10)"), (lambda p, y: (p - y) * math.inf, "not finite"), (3, "is a function"),
    ]),
    "07.know-nothing": ({}, [(LN10, BINARY), (2.303, 0.325), np.array([2.3026, 0.3251]), (2.3, 0.325)], [
        ((2.3, 0.33), "right for cross-entropy. Binary is nearly right, but rounded"),
        ((2.303, 0.3), "nearly right, but rounded"), ((2.31, 0.325), "cross-entropy is nearly right, but rounded"),
        ((LN10, -BINARY), "not negative"), ((LN10, BINARY / LN10), "Binary: the logarithm is the natural"),
        ((BINARY, LN10), "wrong order"), ((-LN10, -BINARY), "not negative"), ((1, 0.325), "natural"),
        ((LN10 / 10, BINARY), "a sum over"), ((0.5, BINARY), "not right for cross-entropy"),
        ((LN10, 10 * BINARY), "*mean*"), ((LN10, LN10 / 10), "nine outputs"), ((LN10, math.log(2)), "answer of 0.5"),
        ((LN10, (9 * LN10 - math.log(0.9)) / 10), "swapped"), ((LN10, 7), "nine are -ln 0.9"), (2.303, "2 numbers"),
    ]),
    "07.floor": ({}, [-math.log(E / (E + 9)), 1.461, np.float64(1.4612)], [
        (0, "one softmax"), (LN10, "knows nothing"), (E / (E + 9), "is its -ln"), (math.log(E / (E + 9)), "the sign"),
        (-math.log10(E / (E + 9)), "natural one"), (-math.log(E / (E + 10)), "*nine*"),
        (-math.log(1 / (E + 9)), "e on top"), (LN10 - 1, "below the line"), (-1, "leaves out"), (1.5, "three decimals"),
        (5, "take the softmax"),
    ]),
    "07.dropped": ({}, [(0.75, 2 / 3, 0.5), (0.75, 0.667, 0.5), [0.75, 0.67, 0.5], np.float32([0.75, 0.6667, 0.5])], [
        ((0.75, 0.7, 0.5), "two decimals"),
        ((0.75, 0.5, 2 / 3), "swapped"), ((75, 66.7, 50), "between 0 and 1"), ((0.5, 2 / 3, 0.5), "only 0.4"),
        ((0.25, 2 / 3, 0.5), "not right for accuracy"), ((0.75, 0.75, 0.75), "if every answer"),
        ((0.75, 0.75, 0.5), "not among them"), ((0.75, 0.5, 0.5), "which is three"),
        ((0.75, 0.1, 0.5), "which numbers are above"), ((0.75, 2 / 3, 0.75), "no hit"),
        ((0.75, 2 / 3, 2 / 3), "four images"), ((0.75, 2 / 3, 0.1), "number of images"), (0.75, "3 numbers"),
    ]),
    "07.threshold-for": ({}, [
        threshold_for, by_search, picked(nth), lambda *args: np.float32(threshold_for(*args)),
        lambda *args: [threshold_for(*args)],
    ], [
        (picked(nth, lambda scores, is_nine: scores), "share of *all*"),
        (picked(nth, lambda scores, is_nine: scores[~is_nine]), "no nine"),
        (picked(lambda recall, scores: nth(recall, scores[::-1])), "wrong way"),
        (picked(lambda recall, scores: scores[min(19, math.ceil(20 * recall))]), "still finds"),
        (picked(lambda recall, scores: nth(recall, scores) - 1e-6), "could be higher"),
        (picked(lambda recall, scores: scores[int(20 * recall) - 1]), "round up"),
        (picked(lambda recall, scores: scores[0]), "has to find"),
        (lambda recall, scores, is_nine: scores, "one number"), (lambda *_: math.inf, "not finite"),
        (picked(lambda recall, scores: nth(min(recall, 0.95), scores)), "for a recall of 1 it finds 19"),
        (0.5, "is a function"),
    ]),
}  # fmt: skip
