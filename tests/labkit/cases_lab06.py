"""Lab 06's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

from types import SimpleNamespace

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


class Broken(Network):
    """The lab's: tanh in the hidden layer, and the backward of a sigmoid."""

    def forward(self, x):
        self.hidden = np.tanh(x @ self.w_hidden + self.b_hidden)
        self.output = 1 / (1 + np.exp(-self.hidden @ self.w_output - self.b_output))
        return self.output


class Tanh(Broken):
    """Right, and what other answers are made from."""

    def slope(self):
        return 1 - self.hidden**2

    def deltas(self, y):
        out = (self.output - y) * self.output * (1 - self.output)
        return out, out @ self.w_output.T * self.slope()

    def backward(self, x, y):
        return self.gradients(x, *self.deltas(y))


class ByOuterProducts(Tanh):
    def backward(self, x, y):
        out, hid = self.deltas(y)
        total = dict.fromkeys(PARAMETERS, 0)
        for row in range(len(x)):
            total["w_hidden"] = total["w_hidden"] + np.outer(x[row], hid[row])
            total["w_output"] = total["w_output"] + np.outer(self.hidden[row], out[row])
            total["b_hidden"], total["b_output"] = total["b_hidden"] + hid[row], total["b_output"] + out[row]
        return total


class ByEinsum(Tanh):
    def backward(self, x, y):
        out, hid = self.deltas(y)
        return {
            "w_hidden": np.einsum("ri,rh->ih", x, hid),
            "w_output": np.einsum("rh,ro->ho", self.hidden, out),
            "b_hidden": np.einsum("rh->h", hid),
            "b_output": np.einsum("ro->o", out),
        }


class OnlyTheHiddenLayer(Broken):
    """Takes the output layer's gradients, which are right, from the class that it is built on."""

    def backward(self, x, y):
        out = (self.output - y) * self.output * (1 - self.output)
        hid = out @ self.w_output.T / np.cosh(x @ self.w_hidden + self.b_hidden) ** 2
        return super().backward(x, y) | {"w_hidden": x.T @ hid, "b_hidden": hid.sum(0)}


class InFloat32(Tanh):
    def backward(self, x, y):
        return {name: np.float32(value) for name, value in super().backward(x, y).items()}


class WithItsOwnForward(Network):
    def forward(self, x):
        self.hidden = np.tanh(x @ self.w_hidden + self.b_hidden)
        self.output = 0.5 + np.tanh((self.hidden @ self.w_output + self.b_output) / 2) / 2
        return self.output

    def backward(self, x, y):
        self.forward(x)
        out = (self.output - y) * self.output * (1 - self.output)
        return self.gradients(x, out, out @ self.w_output.T * (1 - self.hidden) * (1 + self.hidden))


PARAMETERS = ("w_hidden", "w_output", "b_hidden", "b_output")


def backward(self, x, y):
    """A function outside of the class, as the lab's own once was."""
    out, hid = Network.deltas(self, y)
    return self.gradients(x, out, hid)


Network.backward = backward


class HandsOn(Broken):
    backward = backward


class Calls(Broken):
    def backward(self, x, y):
        return backward(self, x, y)


class CallsSuper(Broken):
    def backward(self, x, y):
        gradients = super().backward(x, y)
        return gradients


class CallsNetwork(Broken):
    def backward(self, x, y):
        return Network.backward(self, x, y)


class Copies(Broken):
    def backward(self, x, y):
        return self.gradients(x, *Network.deltas(self, y))


def central_differences(network, name, x, y, step=1e-5):
    parameter = getattr(network, name)
    gradient = np.zeros_like(parameter)
    for i in np.ndindex(parameter.shape):
        value, losses = parameter[i], []
        for parameter[i] in (value + step, value - step):
            losses.append(np.sum((y - network.forward(x)) ** 2) / 2)
        parameter[i] = value
        gradient[i] = (losses[0] - losses[1]) / (2 * step)
    return gradient


class Differences(Broken):
    def backward(self, x, y):
        return {name: central_differences(self, name, x, y) for name in PARAMETERS}


class OwnDifferences(Broken):
    """By hand, without ever calling forward or touching a parameter."""

    def backward(self, x, y):
        other = Tanh(3, 2, 2)
        for name in PARAMETERS:
            setattr(other, name, getattr(self, name).copy())
        return {name: central_differences(other, name, x, y, step=1e-4) for name in PARAMETERS}


class RightForTheSigmoid(Network):
    def backward(self, x, y):
        return self.gradients(x, *self.deltas(y))


class TanhTwice(Tanh):
    def slope(self):
        return 1 - np.tanh(self.hidden) ** 2


class OneMinus(Tanh):
    def slope(self):
        return 1 - self.hidden


class OtherSign(Tanh):
    def slope(self):
        return 1 + self.hidden**2


class NoSlope(Tanh):
    def slope(self):
        return 1


class Halved(Tanh):
    def slope(self):
        return (1 - self.hidden**2) / 2


class TanhAtTheOutput(Tanh):
    def deltas(self, y):
        out = (self.output - y) * (1 - self.output**2)
        return out, out @ self.w_output.T * self.slope()


class MissingSlope(Tanh):
    def backward(self, x, y):
        return self.gradients(x, self.output - y, (self.output - y) @ self.w_output.T)


class WrongSign(Tanh):
    def backward(self, x, y):
        return {name: -value for name, value in self.gradients(x, *self.deltas(y)).items()}


class Mean(Tanh):
    def backward(self, x, y):
        return {name: value / len(x) for name, value in self.gradients(x, *self.deltas(y)).items()}


class NoBias(Tanh):
    def backward(self, x, y):
        return self.gradients(x, *self.deltas(y)) | {"b_hidden": np.zeros_like(self.b_hidden)}


class NotANumber(Tanh):
    def backward(self, x, y):
        return {name: value * np.nan for name, value in self.gradients(x, *self.deltas(y)).items()}


class OtherShape(Tanh):
    def backward(self, x, y):
        gradients = self.gradients(x, *self.deltas(y))
        return gradients | {"w_hidden": gradients["w_hidden"].T}


class OtherForward(Tanh):
    def forward(self, x):
        super().forward(x)
        return self.hidden @ self.w_output


class Steps(Tanh):
    def backward(self, x, y):
        gradients = super().backward(x, y)
        self.w_hidden -= gradients["w_hidden"]
        return gradients


class Stops(Tanh):
    def backward(self, x, y):
        return self.gradients(x, *self.delta(y))


class Inherits(Broken):
    pass


class ReturnsNothing(Tanh):
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


SMALL = ([[2, 2], [2, 2], [0, 0]], [-1, -3], [[2], [-2]], [-1])  # a right construction, with steps that are not sharp
TINY = tuple(np.array(part) / 1000 for part in SMALL)
BLUNT_OR = ([[2, 2], [2, 2], [0, 0]], [-1, -3], [[2], [0]], [-1])
# In the third input's weights what other constructions put into the biases.
BY_THE_THIRD_INPUT = ([[20, 20], [20, 20], [-10, -30]], [0, 0], [[20], [-20]], [-10])
BY_LOGARITHMS = tuple(2 * np.log(99) * np.array(part) for part in SMALL)  # long numbers, but zeros among them
TRAINED = SimpleNamespace(  # what the lab's training from seed 1 finds
    w_hidden=np.array([[-5.8772, -4.1702], [-5.9831, -4.1893], [0.8203, 2.7109]]),
    b_hidden=np.array([1.5268, 3.5262]), w_output=np.array([[-7.4501], [7.1997]]), b_output=np.array([-3.3418]),
)  # fmt: skip


def trained(times=1.0, order=(0, 1), digits=4):
    """The trained weights, of another size, with the units in another order, rounded."""
    order = list(order)
    parts = TRAINED.w_hidden[:, order], TRAINED.b_hidden[order], TRAINED.w_output[order], TRAINED.b_output
    return tuple((times * part).round(digits) for part in parts)


def trained_elsewhere():
    """Eleven numbers as another training leaves them: near a construction, and none of them short."""
    noise = np.random.default_rng(2)
    return tuple(part + noise.normal(0, 0.3, np.shape(part)) for part in by_hand(scale=10))


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
    "06.zero": ({}, [(0.5, 0.125), [0.5, 1 / 8], np.float32([0.5, 0.125])], [
        ((0.125, 0.5), "wrong order"), ((0, 0.25), "sigmoid"), ((1, 0.5), "off the curve"), ((0.5, 0.25), "half"),
        ((0.5, 0.5), "sum over"), ((0.5, 0.9), "square the error"),
    ]),
    "06.mend": ({}, [ByEinsum, ByOuterProducts, Tanh, OnlyTheHiddenLayer, InFloat32, WithItsOwnForward], [
        (HandsOn, "handed on as it is"), (Calls, "only calls another"), (CallsSuper, "only calls another"),
        (CallsNetwork, "only calls another"), (Copies, "still the sigmoid's"), (Inherits, "no backward of its own"),
        (Broken, "Broken has no backward of its own"),
        (Differences, "as central differences do"), (OwnDifferences, "as central differences do"),
        (RightForTheSigmoid, "with the sigmoid in the hidden layer"), (Network, "with the sigmoid in the hidden"),
        (TanhTwice, "once more"), (OneMinus, "not 1 - h"), (OtherSign, "its sign"), (NoSlope, "lacks the slope"),
        (Halved, "factor by factor"), (TanhAtTheOutput, "output unit is still a sigmoid"),
        (MissingSlope, "Start at the output"), (WrongSign, "climb"), (Mean, "mean"), (NoBias, "not b_hidden"),
        (NotANumber, "not finite"), (OtherShape, "has shape (2, 3)"), (OtherForward, "Leave forward as it is"),
        (Steps, "changes the parameters"), (Stops, "stopped with AttributeError"), (ReturnsNothing, "dict"),
        (Tanh(3, 2), "is a class"), ("Mended", "is a class"), (dict, "lacks forward"),
    ]),
    "06.by-hand": (
        {"trained": TRAINED},
        [by_hand(), by_hand(scale=100), nor_and_nand, BY_THE_THIRD_INPUT, BY_LOGARITHMS, by_hand(scale=20.123456)],
        [
            (SMALL, "all eleven numbers 3 times"), (TINY, "times as large"),
            (by_hand(scale=3), "construction is right"),
            (trained(), "training found"), (trained(times=10, digits=2), "training found"),
            (trained(order=(1, 0)), "training found"), (trained_elsewhere(), "none of these eleven"),
            (by_hand(both=0), "OR"), (BLUNT_OR, "OR"), (by_hand(both=1, output_bias=-1.5), "AND"),
            (by_hand(output_bias=0.5, both=0), "same answer|the answer 1"), (by_hand()[:3], "four arrays"),
            ((by_hand()[0].T, *by_hand()[1:]), "shape"), ((*by_hand()[:3], [np.inf]), "not finite"),
            ((*by_hand()[:3], "a"), "no array of numbers"),
        ],
    ),
    "06.plateau": ({}, [
        plateau, lambda ones, rows: ones * (rows - ones) / rows / 8, lambda o, n: round(plateau(o, n), 6),
        lambda o, n: np.float32(plateau(o, n)),
    ], [
        (lambda o, n: 2 * plateau(o, n), "twice"), (lambda o, n: 4 * plateau(o, n), "sum"),
        (lambda o, n: 4 / n * plateau(o, n), "rows that are alike"), (lambda o, n: n / 32, "one half"),
        (lambda o, n: 0, "plateau(1, 2) is off"), (lambda o, n: plateau(o, n) + (n == 3), "plateau(2, 3) is off"),
        (1 / 16, "is a function"),
    ]),
}  # fmt: skip
