"""Every exercise accepts different right answers and rejects plausible wrong ones, each with a message of its own."""

import importlib
import pkgutil

import cases_lab04
import pytest
from cases import CASES, NAMES, made

import labkit.exercises
from labkit.errors import WIDTH, LabError
from labkit.exercises import NotAnswered, WrongAnswer, check, core, hint, predict, reveal, solution

for module in pkgutil.iter_modules(labkit.exercises.__path__):
    importlib.import_module(f"labkit.exercises.{module.name}")


def test_every_exercise_has_cases():
    assert set(CASES) == set(core.exercises)


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_are_accepted(name, capsys):
    facts, right, _ = CASES[name]
    assert len(right) >= 2
    for answer in right:
        check(name, made(answer), **facts)
        assert capsys.readouterr().out == f"● {name}: right.\n"


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_are_told_why(name, capsys):
    facts, _, wrong = CASES[name]
    said = []
    for answer, piece in wrong:
        check(name, made(answer), **facts)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= WIDTH, "JupyterLab would break it in the middle of a word"
        line = " ".join(lines)
        assert line.startswith(f"✗ {name}, not solved yet: ")
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


@pytest.mark.parametrize("name", CASES)
def test_solution_prints_something_and_is_no_hint(name, capsys):
    solution(name)
    printed = capsys.readouterr().out
    assert len(printed) > 10
    assert printed.strip() not in core.exercises[name].hints


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
