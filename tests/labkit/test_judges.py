"""No judge says "right" to nonsense, stops, or says that it could not check: whatever a student hands in."""

import functools
import sys

import numpy as np
import pytest
from test_exercises import CASES

from labkit.errors import LabError
from labkit.exercises import NotAnswered, NotCheckable, WrongAnswer, check, core

NAN, INFINITY = float("nan"), float("inf")


@functools.cache
def network(outputs=1, compiled=False):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(outputs)])
    if compiled:
        model.compile("sgd", "mse")
    return model


class Odd:
    """Has a length and items, and neither is what it seems."""

    def __len__(self):
        raise RuntimeError("no length")

    def __getitem__(self, at):
        raise KeyError(at)

    def __array__(self, *_, **__):
        raise ValueError("no array")


def raises(*_):
    raise RuntimeError


NONSENSE = {
    "NaN": NAN,
    "infinity": INFINITY,
    "minus infinity": -INFINITY,
    "None": None,
    "empty text": "",
    "text": "abc",
    "True": True,
    "complex": 1j,
    "too large for a float": 10**400,
    "no list entries": [],
    "no dict entries": {},
    "a set": {1, 2},
    "an object": object(),
    "an odd object": Odd(),
    "a generator": (i for i in range(3)),
    "NaN in an array": np.array([NAN]),
    "empty array": np.zeros(0),
    "wrong shape": np.zeros((3, 7, 2)),
    "texts in an array": np.array(["a", "b"]),
    "a class": object,
    "a built-in function": repr,
    "a function of nothing": lambda: NAN,
    "a function of everything that gives NaN": lambda *_, **__: NAN,
    "gives None": lambda *_, **__: None,
    "gives text": lambda *_, **__: "abc",
    "gives an empty list": lambda *_, **__: [],
    "gives an empty dict": lambda *_, **__: {},
    "gives NaNs": lambda *_, **__: np.full((4, 4), NAN),
    "gives infinity": lambda *_, **__: INFINITY,
    "gives a pair of NaN": lambda *_, **__: (NAN, NAN),
    "gives a function": lambda *_, **__: repr,
    "gives an odd object": lambda *_, **__: Odd(),
    "raises": raises,
    "exits": lambda *_, **__: sys.exit(),
    "partial": functools.partial(pow, 2),
} | {f"{n} times {value}": (value,) * n for n in (1, 2, 3, 4, 11) for value in (NAN, INFINITY, None, "a")}
NETWORKS = {
    "a network": network,
    "a compiled network": lambda: network(10, True),
    "a network twice": lambda: (network(), network()),
    "a function that gives a network": lambda: lambda *_, **__: network(),
    "a function that gives a compiled network": lambda: lambda *_, **__: network(10, True),
}


@pytest.mark.parametrize("name", CASES)
def test_nonsense_is_never_right_and_never_stops_a_judge(name, capsys):
    facts = CASES[name][0]
    for label, answer in {**NONSENSE, **{key: make() for key, make in NETWORKS.items()}}.items():
        check(name, answer, **facts)
        said = capsys.readouterr().out
        assert said.startswith((f"✗ {name}, not solved yet: ", f"○ {name}: ")), (label, said)


@pytest.mark.parametrize("name", [name for name, (_, right, _) in CASES.items() if isinstance(right[0], tuple)])
def test_one_part_spoilt_is_not_right(name, capsys):
    facts, right, _ = CASES[name]
    for at in range(len(right[0])):
        for bad in (NAN, INFINITY, None, "a", []):
            check(name, (*right[0][:at], bad, *right[0][at + 1 :]), **facts)
            said = capsys.readouterr().out
            assert said.startswith((f"✗ {name}, not solved yet: ", f"○ {name}: ")), (at, bad, said)


@pytest.fixture
def judge(monkeypatch):
    """Registers a judge as an exercise of its own, for one test."""

    def register(function):
        found = core.Exercise("00.trial", function, ("a", "b"), "answer = 1")
        monkeypatch.setitem(core.exercises, "00.trial", found)

    return register


def fails(answer):
    raise ZeroDivisionError("ours")


BROKEN = {
    "stops": fails,
    "falls off its end": lambda answer: None,
    "gives an empty text": lambda answer: "",
    "gives True": lambda answer: True,
    "gives the class": lambda answer: core.Right,
    "gives an empty complaint": lambda answer: core.Wrong(""),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_judge_without_a_verdict_says_neither_right_nor_wrong(how, judge, capsys, monkeypatch):
    judge(BROKEN[how])
    check("00.trial", 1)
    said = " ".join(capsys.readouterr().out.splitlines())
    assert said.startswith("! 00.trial: this answer could not be checked")
    assert "not of your answer: please report it" in said
    monkeypatch.setenv("LABKIT_STRICT", "1")
    with pytest.raises(NotCheckable, match="could not be checked") as raised:
        check("00.trial", 1)
    assert not isinstance(raised.value, (WrongAnswer, NotAnswered, AssertionError))


def test_a_check_without_its_facts_says_how_it_is_called():
    with pytest.raises(LabError, match=r'check\("04.constant-class", your answer, answers=\.\.\.\)'):
        check("04.constant-class", 1)


@pytest.mark.parametrize("function", [functools.partial(pow, 2), network, max])
def test_what_has_no_name_can_still_be_called_by_one(function):
    assert core.name_of(function)


def test_the_first_difference_is_found_and_told_apart():
    assert core.first_difference([1, 2, 3.1], [1, 2, 3]) == 2
    assert core.first_difference([1, NAN], [1, 1]) == 1
    assert core.first_difference(np.float32([0.1, 1.525]), [0.1, 1.525]) is None
    assert core.apart(1.52500001, 1.525) == ("1.52500001", "1.525")
    assert core.apart(3.656, 3.66) == ("3.656", "3.66")
