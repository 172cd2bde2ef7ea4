"""Lab 06's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

import numpy as np


class Network:
    """A correct 3-h-o network, written independently of the lab: gradients of half the summed squared error."""

    def __init__(self, n_inputs, n_hidden, n_outputs=1):
        self.w_hidden, self.w_output = np.ones((n_inputs, n_hidden)), np.ones((n_hidden, n_outputs))
        self.b_hidden, self.b_output = np.zeros(n_hidden), np.zeros(n_outputs)

    def forward(self, x):
        self.hidden = 1 / (1 + np.exp(-x @ self.w_hidden - self.b_hidden))
        self.output = 1 / (1 + np.exp(-self.hidden @ self.w_output - self.b_output))
        return self.output

    def deltas(self, y):
        out = (self.output - y) * self.output * (1 - self.output)
        return out, out @ self.w_output.T * self.hidden * (1 - self.hidden)

    def gradients(self, x, out, hid):
        return {"w_hidden": x.T @ hid, "w_output": self.hidden.T @ out, "b_hidden": hid.sum(0), "b_output": out.sum(0)}

    def backward(self, x, y):
        return self.gradients(x, *self.deltas(y))


class ByOuterProducts(Network):
    def backward(self, x, y):
        out, hid = self.deltas(y)
        total = {name: 0 for name in core_parameters}
        for row in range(len(x)):
            total["w_hidden"] = total["w_hidden"] + np.outer(x[row], hid[row])
            total["w_output"] = total["w_output"] + np.outer(self.hidden[row], out[row])
            total["b_hidden"], total["b_output"] = total["b_hidden"] + hid[row], total["b_output"] + out[row]
        return total


class ByEinsum(Network):
    def backward(self, x, y):
        out, hid = self.deltas(y)
        return {
            "w_hidden": np.einsum("ri,rh->ih", x, hid),
            "w_output": np.einsum("rh,ro->ho", self.hidden, out),
            "b_hidden": np.einsum("rh->h", hid),
            "b_output": np.einsum("ro->o", out),
        }


core_parameters = ("w_hidden", "w_output", "b_hidden", "b_output")


class TwiceTheSigmoid(Network):
    def deltas(self, y):
        out, _ = super().deltas(y)
        twice = 1 / (1 + np.exp(-self.hidden))
        return out, out @ self.w_output.T * twice * (1 - twice)


class Twice(TwiceTheSigmoid):
    def backward(self, x, y):
        return self.gradients(x, *self.deltas(y))


Broken = type("Broken", (Twice,), {"backward": Twice.backward})


class MissingSlope(Network):
    def backward(self, x, y):
        return self.gradients(x, self.output - y, (self.output - y) @ self.w_output.T)


class WrongSign(Network):
    def backward(self, x, y):
        return {name: -value for name, value in self.gradients(x, *self.deltas(y)).items()}


class Mean(Network):
    def backward(self, x, y):
        return {name: value / len(x) for name, value in self.gradients(x, *self.deltas(y)).items()}


class NoBias(Network):
    def backward(self, x, y):
        return self.gradients(x, *self.deltas(y)) | {"b_hidden": np.zeros_like(self.b_hidden)}


class NotANumber(Network):
    def backward(self, x, y):
        return {name: value * np.nan for name, value in self.gradients(x, *self.deltas(y)).items()}


class OtherForward(Network):
    def forward(self, x):
        super().forward(x)
        return self.hidden @ self.w_output

    def backward(self, x, y):
        return self.gradients(x, *self.deltas(y))


class Inherits(ByOuterProducts):
    pass


class OwnBackward(Network):
    def backward(self, x, y):
        return super().backward(x, y)


class ReturnsNothing(Network):
    def backward(self, x, y):
        self.gradients(x, *self.deltas(y))


def by_hand(sign=1, scale=20, output_bias=-0.5, both=-1):
    """Weights of a 3-2-1 network: OR and AND in the hidden layer, or their opposites."""
    w_hidden = sign * scale * np.array([[1, 1], [1, 1], [0, 0]])
    b_hidden = sign * scale * np.array([-0.5, -1.5])
    w_output = scale * np.array([[1], [both]])
    return w_hidden, b_hidden, w_output, np.array([scale * output_bias])


# The opposites of OR and AND in the hidden layer.
nor_and_nand = [*by_hand(sign=-1)[:2], np.array([[-20], [20]]), np.array([-10])]


def plateau(ones, rows):
    return (ones * (1 - ones / rows) ** 2 + (rows - ones) * (ones / rows) ** 2) / 8


CASES = {
    "06.separable": ({}, [14, 14.0], [
        (16, "one of the 16"), (15, "not alone"), (2, "have no line"), (1, "always 0"), (12, "far away"),
        (8, "coincidence"), (3, "number of ones|how many of the four"),
    ]),
    "06.count": ({}, [11, np.int64(11)], [
        (8, "weights alone"), (3, "biases alone"), (6, "hidden layer's weights"), (9, "third input"),
        (10, "output unit has a bias"), (4, "arrays"), (100, "layer by layer"),
    ]),
    "06.zero": ({}, [(0.5, 0.125), [0.5, 1 / 8]], [
        ((0.125, 0.5), "wrong order"), ((0, 0.25), "sigmoid"), ((1, 0.5), "off the curve"), ((0.5, 0.25), "half"),
        ((0.5, 0.5), "sum over"), ((0.5, 0.9), "square the error"),
    ]),
    "06.mend": ({}, [ByEinsum, ByOuterProducts], [
        (OwnBackward, "leaves the work"), (Network, "not built on Network"),
        (Twice, "delta_hidden, factor"), (NotANumber, "not finite"), (OtherForward, "only backward"),
        (Inherits, "no backward of its own"), (Broken, "broken class itself"),
        (MissingSlope, "Start at the output"), (WrongSign, "climb"), (Mean, "mean"), (NoBias, "not b_hidden"),
        (ReturnsNothing, "dict"),
        (Network(3, 2), "is a class"), ("Mended", "is a class"), (dict, "lacks forward"),
    ]),
    "06.by-hand": ({}, [by_hand(), by_hand(scale=100), nor_and_nand], [
        (by_hand(scale=3), "right side"), (by_hand(both=0), "OR"), (by_hand(both=1, output_bias=-1.5), "AND"),
        (by_hand(output_bias=0.5, both=0), "same answer|the answer 1"), (by_hand()[:3], "four arrays"),
        ((by_hand()[0].T, *by_hand()[1:]), "shape"), ((*by_hand()[:3], [np.inf]), "not finite"),
    ]),
    "06.plateau": ({}, [plateau, lambda ones, rows: ones * (rows - ones) / rows / 8], [
        (lambda o, n: 2 * plateau(o, n), "twice"), (lambda o, n: 4 * plateau(o, n), "sum"),
        (lambda o, n: 4 / n * plateau(o, n), "rows that are alike"), (lambda o, n: n / 32, "one half"),
        (lambda o, n: 0, "is off"), (1 / 16, "is a function"),
    ]),
}  # fmt: skip
