"""Every exercise accepts different right answers and rejects plausible wrong ones, each with a message of its own."""

import importlib
import pathlib
import pkgutil
from types import SimpleNamespace

import cases_lab04
import numpy as np
import pytest

import labkit.exercises
from labkit.errors import LabError
from labkit.exercises import NotAnswered, WrongAnswer, check, core, hint, predict, reveal, solution

for module in pkgutil.iter_modules(labkit.exercises.__path__):
    importlib.import_module(f"labkit.exercises.{module.name}")


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


class Make:
    """A Keras model that is made only when it is needed: importing Keras takes seconds."""

    def __init__(self, make, **options):
        self.make, self.options = make, options

    def __call__(self):
        return self.make(**self.options)


def functional(hidden=32, activation="relu", join=True, outputs="softmax", second=False):
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    x = layers.Dense(hidden, activation=activation)(inputs)
    if second:
        x = layers.Dense(hidden, activation=activation)(x)
    if join:
        x = layers.Concatenate()([inputs, x])
    return keras.Model(inputs, layers.Dense(10, activation=outputs)(x))


def swapped_join():
    import keras
    from keras import layers

    inputs = keras.Input((784,), name="paper")
    hidden = layers.Activation("relu")(layers.Dense(32)(inputs))
    joined = layers.Concatenate()([hidden, inputs])
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(joined))


def softmax_apart():
    import keras
    from keras import layers

    inputs = keras.Input((784,))
    hidden = keras.ops.relu(layers.Dense(32)(inputs))
    logits = layers.Dense(10)(layers.Concatenate()([inputs, hidden]))
    return keras.Model(inputs, layers.Softmax()(logits))


class FakeModel:
    """Answers `evaluate` with a known loss and accuracy for each set."""

    def evaluate(self, x, y, verbose):
        return {"train": (0.1, 0.98), "valid": (0.12, 0.97), "test": (0.13, 0.96)}[x]


three = {
    "model": FakeModel(),
    "data": SimpleNamespace(x_train="train", y_train=0, x_valid="valid", y_valid=0, x_test="test", y_test=0),
}
sizes, means = [10, 20, 30, 40], [0.5, 0.6, 0.55, 0.9]
r = np.corrcoef(sizes, means)[0, 1]


def plateau(ones, rows):
    return (ones * (1 - ones / rows) ** 2 + (rows - ones) * (ones / rows) ** 2) / 8


# name: (facts for check, right answers, wrong answers with a piece of the message that each must get)
CASES = {
    "00.pixels": ({}, [784, 784.0, np.int64(784)], [
        (28, "one row"), (56, "added"), (112, "border"), (785, "bias"), ("784", "quotation"), (7, "multiply rows"),
    ]),
    "01.baseline": ({}, [0, 0.0], [
        (90, "what the program gets right"), (80, "'bad'"), (40, "coin"), (10, "wrong"), (5, "subtract"),
    ]),
    "01.weights": ({}, [(317_600, 410), [317_600.0, np.int64(410)]], [
        ((410, 317_600), "wrong order"), ((318_010, 410), "together"), ((313_600, 410), "first layer alone"),
        ((4_000, 410), "output layer alone"), ((314_000, 410), "with its biases"), ((1_194, 410), "added the units"),
        ((3_136_000, 410), "multiplies the layers"), ((5, 410), "inputs times its units"),
        ((317_600, 400), "ten outputs"), ((317_600, 10), "hidden units"), ((317_600, 1_194), "Pixels are given"),
        ((317_600, 2), "not for each layer"), ((317_600, 3), "has one bias"), (318_010, "2 numbers"),
    ]),
    "01.parameters": ({}, [lambda h: 795 * h + 10, lambda h: 785 * h + (h + 1) * 10], [
        (lambda h: 794 * h, "left out the biases"), (lambda h: 785 * h, "the hidden layer"),
        (lambda h: 795 * h, "ten biases"), (lambda h: 794 * h + 10, "biases of the hidden"),
        (lambda h: h + 10, "left out the weights"), (lambda h: 318_010, "always gives"),
        (lambda h: 794 * h + 794, "pixels have no bias"), (lambda h: h**2, "for h = 1"), (318_010, "is a function"),
        (lambda h: None, "returns nothing"), (lambda h: h / 0, "ZeroDivisionError"),
    ]),
    "01.widths": ({}, [(378, 62), np.array([378, 62])], [
        ((62, 378), "wrong order"), ((377, 62), "round up"), ((383, 62), "divide by 784"), ((400, 62), "smaller layer"),
        ((100, 62), "fewer than"), ((378, 63), "round down"), ((378, 70), "not below"), ((378, 60), "room for more"),
    ]),
    "01.step": ({}, [255**2, 65_025.0], [
        (255, "smaller pixel"), (1 / 255, "smaller still"), (1, "shrunk"), (510, "multiply"), (7, "shrink both"),
    ]),
    "01.correlation": ({"sizes": sizes, "means": means}, [r, round(r, 2), np.float32(r)], [
        (np.corrcoef(sizes, means), "whole table"), (1, "itself"), (r**2, "squared"), (-r, "sign"),
        (100 * r, "percentage"), (np.cov(sizes, means)[0, 1], "covariance"), (0.1, "computes it"),
    ]),
    "01.deep": ({}, [849_930, 849_930.0], [
        (847_872, "weights alone"), (2_058, "biases alone"), (840_020, "source D"), (839_680, "output layer"),
        (1_200_138, "784"), (587_274, "two layers"), (1, "four layers"),
    ]),
    "01.functional": ({}, [Make(functional), Make(swapped_join), Make(softmax_apart)], [
        (Make(functional, join=False), "no Concatenate"), (Make(functional, hidden=16), "800 numbers"),
        (Make(functional, activation="sigmoid"), "max(0, z)"), (Make(functional, activation="tanh"), "max(0, z)"),
        (Make(functional, outputs="linear"), "not probabilities"),
        (Make(functional, second=True), "one hidden layer"), (33_290, "Keras model"),
    ]),
    "01.standard-error": ({}, [lambda p, n: np.sqrt(p * (1 - p) / n), lambda p, n: (p / n - p**2 / n) ** 0.5], [
        (lambda p, n: p * (1 - p) / n, "variance"), (lambda p, n: np.sqrt(p * (1 - p)) / n, "under the root"),
        (lambda p, n: np.sqrt(p * (1 - p)), "single image"), (lambda p, n: 1.96 * np.sqrt(p * (1 - p) / n), "1.96"),
        (lambda p, n: np.sqrt(p / n), "1 - p"), (lambda p, n: 100 * np.sqrt(p * (1 - p) / n), "percentage"),
        (lambda p, n: p, "0.03"),
    ]),
    "01.three": (three, [(0.98, 0.97, 0.96), [np.float32(0.98), 0.9701, 0.96]], [
        ((98.0, 97.0, 96.0), "percentages"), ((0.1, 0.12, 0.13), "losses"), ((0.96, 0.97, 0.98), "wrong order"),
        ((0.02, 0.03, 0.04), "mistakes"), ((0.95, 0.97, 0.96), "averages"), ((0.98, 0.5, 0.96), "validation accuracy"),
        ((0.978, 0.971, 0.958), "four decimals"),
        (0.98, "3 numbers"),
    ]),
    "01.epoch-time": ({}, [391 * 0.002, 1, 0.8], [
        (0.002, "one step"), (2, "time of a step"), (782, "milliseconds"), (391, "number of steps"), (0.256, "batch"),
        (50, "multiply"),
    ]),
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
for path in sorted(pathlib.Path(__file__).parent.glob("cases_lab*.py")):
    CASES |= importlib.import_module(path.stem).CASES


def made(answer):
    return answer() if isinstance(answer, Make) else answer


def test_every_exercise_has_cases():
    assert set(CASES) == set(core.exercises)


@pytest.mark.parametrize("name", CASES)
def test_right_answers_are_accepted(name, capsys):
    facts, right, _ = CASES[name]
    assert len(right) >= 2
    for answer in right:
        check(name, made(answer), **facts)
        assert capsys.readouterr().out == f"● {name}: right.\n"


@pytest.mark.parametrize("name", CASES)
def test_wrong_answers_are_told_why(name, capsys):
    facts, _, wrong = CASES[name]
    said = []
    for answer, piece in wrong:
        check(name, made(answer), **facts)
        line = capsys.readouterr().out
        assert line.startswith(f"✗ {name}: ")
        assert any(part in line for part in piece.split("|")), (piece, line)
        said.append(line)
    assert len(set(said)) >= 4, "at least four wrong answers, each with its own message"


@pytest.mark.parametrize("name", CASES)
def test_untouched_answers_are_not_wrong(name, capsys):
    facts, _, _ = CASES[name]
    check(name, ..., **facts)
    assert capsys.readouterr().out.startswith(f"○ {name}: not answered yet")


@pytest.mark.parametrize(
    "name",
    [
        "01.parameters",
        "01.standard-error",
        "02.penalty",
        "02.moving-mean-after",
        "02.paired-t",
        "04.constant-loss",
        "06.plateau",
    ],
)
def test_untouched_functions_are_not_wrong(name, capsys):
    check(name, lambda *args: ...)
    assert "not answered yet" in capsys.readouterr().out


def test_a_half_filled_answer_is_not_wrong(capsys):
    check("01.weights", (317_600, ...))
    assert "not answered yet" in capsys.readouterr().out


def test_a_network_is_no_function_that_builds_one(capsys):
    check("04.deep-network", cases_lab04.network(), data=cases_lab04.DATA)
    assert "give the function that builds one" in capsys.readouterr().out


@pytest.mark.parametrize("variable", ["LABKIT_STRICT", "NBGRADER_EXECUTION"])
def test_strict_mode_raises(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WrongAnswer, match="one row"):
        check("00.pixels", 28)
    with pytest.raises(NotAnswered):
        check("00.pixels", ...)
    check("00.pixels", 784)


def test_a_guess_is_never_graded(monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_STRICT", "1")
    predict("01.softmax", ...)
    predict("01.softmax", 97)
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["○", "✗"]


@pytest.mark.parametrize("value", [None, "0"])
def test_not_strict_by_default(monkeypatch, value):
    monkeypatch.delenv("LABKIT_STRICT", raising=False)
    if value:
        monkeypatch.setenv("LABKIT_STRICT", value)
    check("00.pixels", 28)


@pytest.mark.parametrize("name", CASES)
def test_hints_go_from_a_nudge_to_more(name, capsys):
    core._hints_given.clear()
    hints = core.exercises[name].hints
    assert len(hints) >= 2
    for number, text in enumerate(hints, start=1):
        hint(name)
        line = capsys.readouterr().out
        assert line.startswith(f"Hint {number} of {len(hints)}: {text}")
    assert "solution(" in line
    hint(name)
    assert capsys.readouterr().out == line, "after the last hint, the last one again"


@pytest.mark.parametrize("name", [name for name in CASES if "\n" in core.exercises[name].solution])
def test_printed_code_solutions_are_right(name, capsys):
    import keras

    scope = {"np": np, "keras": keras, "layers": keras.layers, "Network": Network, "final_model": FakeModel()}
    scope |= vars(three["data"])
    exec(core.exercises[name].solution, scope)
    answer = scope.get("answer", scope.get("model", scope.get(name.partition(".")[2].replace("-", "_"))))
    check(name, answer, **CASES[name][0])
    assert capsys.readouterr().out == f"● {name}: right.\n"


@pytest.mark.parametrize("name", CASES)
def test_solution_prints_something_and_is_no_hint(name, capsys):
    solution(name)
    printed = capsys.readouterr().out
    assert len(printed) > 10
    assert printed.strip() not in core.exercises[name].hints


def test_a_judge_that_stumbles_is_no_stack_trace(capsys):
    check("06.by-hand", ("a", "b", "c", "d"))
    assert "ValueError" in capsys.readouterr().out


def test_unknown_names_list_the_known():
    with pytest.raises(LabError, match=r"01\.weights"):
        check("01.wieghts", 1)
    with pytest.raises(LabError, match="none in this lab"):
        hint("77.nothing")


@pytest.fixture
def no_guesses():
    core._guesses.clear()
    yield
    core._guesses.clear()


@pytest.mark.parametrize("name", sorted(core.predictions))
def test_predictions_are_noted_and_revealed(name, capsys, no_guesses):
    found = core.predictions[name]
    predict(name, found.low)
    assert "noted" in capsys.readouterr().out
    reveal(name, found.high)
    assert f"off by {found.high - found.low:.3g}" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(core.predictions))
def test_predictions_reject_what_cannot_be(name, capsys, no_guesses):
    for guess in (97, "0.9", True, [0.1, 0.2], float("nan")):
        predict(name, guess)
        assert capsys.readouterr().out.startswith(f"✗ {name}"), guess
    reveal(name, 0.5)
    assert "0.5" not in capsys.readouterr().out, "without a guess the value stays hidden"


def test_a_second_guess_replaces_the_first(capsys, no_guesses):
    predict("01.softmax", 0.1)
    predict("01.softmax", 0.9)
    reveal("01.softmax", 0.9)
    assert "off by 0." in capsys.readouterr().out
    predict("01.softmax", ...)
    reveal("01.softmax", 0.9)
    assert "no guess" in capsys.readouterr().out
