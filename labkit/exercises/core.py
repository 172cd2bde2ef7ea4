"""How exercises work, whatever they ask. The exercises themselves are in lab01.py, lab06.py, ...

An exercise is a function that judges an answer. It returns None for a right answer and, for a wrong one, a sentence
that says what is wrong with this very answer. Its docstring is the question. It is registered under "NN.name".
"""

import importlib
import math
import numbers
import os
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabError

exercises = {}  # "NN.name" -> Exercise
predictions = {}  # "NN.name" -> Prediction
_hints_given = {}  # "NN.name" -> how many
_guesses = {}  # "NN.name" -> number


class WrongAnswer(LabError, AssertionError):
    """Raised by `check` for a wrong answer in strict mode. A judge may raise it to reject an answer at once."""


class NotAnswered(LabError, AssertionError):
    """Raised by `check` for an untouched answer in strict mode."""


@dataclass(frozen=True)
class Exercise:
    """What `exercise` registers: its name, its judge, its hints from gentle to plain, and its solution."""

    name: str
    judge: callable
    hints: tuple
    solution: str


@dataclass(frozen=True)
class Prediction:
    """What `prediction` registers: the question, the range that an answer can lie in, and the unit."""

    name: str
    question: str
    low: float
    high: float
    unit: str


def exercise(name, hints, solution):
    """Register the decorated judge as exercise `name`, with hints (gentle first) and a solution to read."""

    def register(judge):
        exercises[name] = Exercise(name, judge, tuple(hints), solution.strip())
        return judge

    return register


def number_exercise(name, *, question, right, wrong, otherwise, hints, solution, tolerance=1e-9):
    """Register an exercise whose answer is the number `right`.

    wrong: dict of plausible wrong number -> what is wrong with it. otherwise: what to say to any other number.
    tolerance: relative; larger where an answer may be rounded.
    """

    def judge(answer):
        def is_about(other):
            return math.isclose(value, other, rel_tol=tolerance)

        value = number(answer)
        if is_about(right):
            return None
        return next((complaint for mistake, complaint in wrong.items() if is_about(mistake)), otherwise)

    judge.__doc__ = question
    return exercise(name, hints, solution)(judge)


def prediction(name, question, low, high, unit=""):
    """Register a guess at a number between `low` and `high`."""
    predictions[name] = Prediction(name, question, low, high, unit)


def check(name, answer, **facts):
    """Say whether `answer` solves exercise `name`, and if not, why not.

    answer: what the exercise asks for; `...` counts as not answered yet.
    facts: values from the notebook that the judge compares with, where the exercise needs them.
    Prints one line. Raises LabError for a name that no exercise has; in strict mode (LABKIT_STRICT=1, or while
    nbgrader grades) WrongAnswer or NotAnswered where the answer is not right.
    """
    found = _find(exercises, name, "exercise")
    try:
        _refuse_untouched(answer)
        complaint = found.judge(answer, **facts)
    except NotAnswered:
        return _report(NotAnswered, "○", f'{name}: not answered yet. hint("{name}") gives a nudge.')
    except WrongAnswer as error:
        complaint = str(error)
    except Exception as error:
        complaint = f"checking it stopped with {type(error).__name__}: {_first_line(error)}."
    if complaint:
        return _report(WrongAnswer, "✗", f"{name}: {complaint}")
    print(f"● {name}: right.")


def hint(name):
    """Print the next hint for exercise `name`: first a nudge, then more each time."""
    found = _find(exercises, name, "exercise")
    given = _hints_given.get(name, 0)
    number = min(given, len(found.hints) - 1)
    more = "" if number + 1 < len(found.hints) else f' That was the last; solution("{name}") shows an answer.'
    print(f"Hint {number + 1} of {len(found.hints)}: {found.hints[number]}{more}")
    _hints_given[name] = given + 1


def solution(name):
    """Print a solution of exercise `name`. Try a hint first."""
    print(_find(exercises, name, "exercise").solution)


def predict(name, guess):
    """Note a guess before the experiment is run. `reveal` compares it with what happened.

    A guess is never graded: strict mode does not change what this does. Raises LabError for an unknown name.
    """
    found = _find(predictions, name, "prediction")
    _guesses.pop(name, None)
    if guess is ...:
        return print(f"○ {name}: no guess yet. Replace the ... first: {found.question}")
    try:
        value = number(guess)
    except WrongAnswer as error:
        return print(f"✗ {name}: {error}")
    if not found.low <= value <= found.high:
        possible = f"a number from {found.low:g} to {found.high:g}{found.unit}"
        return print(f"✗ {name}: {value:g} cannot be; it is {possible}.")
    _guesses[name] = value
    print(f"● {name}: your guess is noted.")


def reveal(name, value):
    """Compare the guess noted under `name` with the measured `value`, and print how far off it was.

    Without a guess, the value stays hidden from this line, so that the question can still be answered.
    """
    found = _find(predictions, name, "prediction")
    if name not in _guesses:
        print(f"○ {name}: you noted no guess. Make one next time: what surprises you, you remember.")
        return
    guess, value = _guesses[name], number(value)
    off = abs(guess - value)
    print(f"● {name}: you guessed {guess:.4g}{found.unit}, it is {value:.4g}{found.unit}: off by {off:.3g}.")


def number(answer):
    """The answer as a float. Raises WrongAnswer, saying what it is instead, where it is not one number."""
    if isinstance(answer, (bool, np.bool_)):
        raise WrongAnswer("the answer is a number, not True or False.")
    if isinstance(answer, numbers.Real):
        return float(answer)
    if isinstance(answer, str):
        raise WrongAnswer(f"the answer is a number; this is text ({answer!r}). Leave the quotation marks out.")
    array = np.asarray(answer) if not callable(answer) else np.empty(0, dtype=object)
    if array.size == 1 and array.dtype.kind in "iuf":
        return float(array.item())
    raise WrongAnswer(f"the answer is one number; this is a {type(answer).__name__}.")


def several(answer, count):
    """The answer as a list of `count` floats. Raises WrongAnswer where it is not that many numbers."""
    if isinstance(answer, (str, bytes, dict, set)) or not hasattr(answer, "__len__") or len(answer) != count:
        raise WrongAnswer(f"the answer is {count} numbers, separated by commas.")
    return [number(part) for part in answer]


def call(function, *args):
    """What the student's function returns for `args`.

    Raises NotAnswered where it still returns `...` or nothing, WrongAnswer where it is no function or stops with an
    error.
    """
    if not callable(function):
        kind = type(function).__name__
        raise WrongAnswer(f"the answer is a function; this is a {kind}. Pass it by its name, without parentheses.")
    try:
        result = function(*args)
    except Exception as error:
        given = ", ".join(_short(arg) for arg in args)
        raise WrongAnswer(
            f"{function.__name__}({given}) stopped with {type(error).__name__}: {_first_line(error)}."
        ) from None
    _refuse_untouched(result)
    if result is None:
        raise WrongAnswer(f"{function.__name__} returns nothing. Does it end in `return`?")
    return result


def _refuse_untouched(answer):
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, (list, tuple)) else [answer]
    if any(part is ... for part in parts):
        raise NotAnswered("not answered yet")


def _find(registry, name, kind):
    lab = str(name).partition(".")[0]
    if lab.isdigit():
        try:
            importlib.import_module(f"labkit.exercises.lab{lab}")
        except ModuleNotFoundError as error:
            if error.name != f"labkit.exercises.lab{lab}":
                raise
    if name not in registry:
        known = ", ".join(sorted(key for key in registry if key.startswith(f"{lab}."))) or "none in this lab"
        raise LabError(f"There is no {kind} {name!r}. There are: {known}.")
    return registry[name]


def _report(error_class, mark, text):
    """Print the outcome, or raise it in strict mode."""
    if os.environ.get("LABKIT_STRICT", "0") not in ("", "0") or os.environ.get("NBGRADER_EXECUTION"):
        raise error_class(text)
    print(f"{mark} {text}")


def _first_line(error):
    return (str(error).splitlines() or ["no message"])[0].rstrip(".")


def _short(value):
    text = repr(value)
    return text if len(text) < 40 else type(value).__name__
