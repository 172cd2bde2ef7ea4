"""How exercises work, whatever they ask. The exercises themselves are in lab01.py, lab06.py, ...

An exercise is a function that judges an answer. It returns Right() for a right answer and, for a wrong one,
Wrong("a sentence that says what is wrong with this very answer"). Its docstring is the question. It is registered under
"NN.name". A judge fails closed: one that stops with an error, or ends without saying either, never says "right". That
is our fault and not the student's, so it is an outcome of its own.
"""

import contextlib
import copy
import importlib
import inspect
import math
import numbers
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import LabError, in_lines

exercises = {}  # "NN.name" -> Exercise
predictions = {}  # "NN.name" -> Prediction
_hints_given = {}  # "NN.name" -> how many
_guesses = {}  # "NN.name" -> number


@dataclass(frozen=True)
class Right:
    """What a judge returns for a right answer."""


@dataclass(frozen=True)
class Wrong:
    """What a judge returns for a wrong answer: a sentence that says what is wrong with it."""

    feedback: str


class WrongAnswer(LabError, AssertionError):
    """Raised by `check` for a wrong answer in strict mode. A judge may raise it to reject an answer at once."""


class NotAnswered(LabError, AssertionError):
    """Raised by `check` for an untouched answer in strict mode."""


class NotCheckable(LabError):
    """Raised by `check` in strict mode where the judge itself failed: the answer may be right or wrong."""


@dataclass(frozen=True)
class Exercise:
    """What `exercise` registers."""

    name: str
    judge: Callable
    hints: tuple[str, ...]
    solution: str


@dataclass(frozen=True)
class Prediction:
    """What `prediction` registers."""

    question: str
    low: float
    high: float
    unit: str


def exercise(name: str, hints: Iterable[str], solution: str) -> Callable:
    """Register the decorated judge as an exercise.

    Parameters
    ----------
    name : str
        "NN.name".
    hints : list of str
        From gentle to plain.
    solution : str
        Code that solves it in the lab's kernel: it stands where the student writes, above the call of `check`, and
        gives the name that `check` is called with. What there is to explain is a comment in it.
    """

    def register(judge):
        exercises[name] = Exercise(name, judge, tuple(hints), solution.strip())
        return judge

    return register


def number_exercise(
    name: str,
    *,
    question: str,
    right: float,
    wrong: dict[float, str],
    otherwise: str,
    hints: Iterable[str],
    solution: str,
    tolerance: float = 1e-9,
) -> Callable:
    """Register an exercise whose answer is the number `right`; its question, hints and solution are as for others.

    Parameters
    ----------
    wrong : dict of float -> str
        What is wrong with each plausible mistake; it is recognized when rounded, too.
    otherwise : str
        What to say to any other number.
    tolerance : float
        Relative; larger where an answer may be rounded.
    """

    def judge(answer):
        value = number(answer)
        if math.isclose(value, right, rel_tol=tolerance):
            return Right()
        nearest_first = sorted(wrong, key=lambda mistake: abs(mistake - value))
        made = (mistake for mistake in nearest_first if _is_rounded(value, mistake, tolerance))
        return Wrong(next((wrong[mistake] for mistake in made), otherwise))

    judge.__doc__ = question
    return exercise(name, hints, solution)(judge)


def prediction(name: str, question: str, low: float, high: float, unit: str = "") -> None:
    """Register a question for a guess at a number from `low` to `high`, which is shown with its `unit`."""
    predictions[name] = Prediction(question, low, high, unit)


def check(name: str, answer: Any, **facts: Any) -> None:
    """Print in one line whether an answer solves an exercise, and if not, why not.

    Parameters
    ----------
    name : str
        "NN.name".
    answer : Any
        What the exercise asks for; `...` counts as not answered yet.
    **facts : Any
        Values from the notebook that the judge compares with, where the exercise needs them.

    Raises
    ------
    LabError
        For a name that no exercise has, or where the facts are not those that it needs.
    WrongAnswer, NotAnswered, NotCheckable
        In strict mode (LABKIT_STRICT=1, or while nbgrader grades), where the answer is wrong or untouched, or where the
        judge failed.
    """
    found = _find(exercises, name, "exercise")
    wanted = sorted(set(inspect.signature(found.judge).parameters) - {"answer"})
    if wanted != sorted(facts):
        given = "".join(f", {fact}=..." for fact in wanted)
        raise LabError(f'This check is called check("{name}", your answer{given}): copy its line from the lab.')
    try:
        _refuse_untouched(answer)
        verdict = found.judge(answer, **facts)
    except NotAnswered:
        return _report(NotAnswered, "○", f'{name}: not answered yet. hint("{name}") gives a nudge.')
    except WrongAnswer as error:
        verdict = Wrong(str(error))
    except Exception as error:
        verdict = f"{type(error).__name__}: {_first_line(error)}"
    if isinstance(verdict, Wrong) and verdict.feedback:
        # The words, too: in a PDF made of a notebook, the sign is lost.
        return _report(WrongAnswer, "✗", f"{name}, not solved yet: {verdict.feedback}")
    if not isinstance(verdict, Right):
        return _report(
            NotCheckable,
            "!",
            f"{name}: this answer could not be checked ({verdict or 'the check came to no verdict'}). That is the "
            "fault of the check, not of your answer: please report it, and go on.",
        )
    print(f"● {name}: right.")


def hint(name: str) -> None:
    """Print the next hint for exercise `name`: first a nudge, then more each time."""
    found = _find(exercises, name, "exercise")
    given = _hints_given.get(name, 0)
    number = min(given, len(found.hints) - 1)
    more = "" if number + 1 < len(found.hints) else f' That was the last; solution("{name}") shows an answer.'
    print(f"Hint {number + 1} of {len(found.hints)}: {found.hints[number]}{more}")
    _hints_given[name] = given + 1


def solution(name: str) -> None:
    """Print a solution of exercise `name`. Try a hint first."""
    print(_find(exercises, name, "exercise").solution)


def predict(name: str, guess: float) -> None:
    """Note a guess before the experiment is run; `reveal` compares it with what happened. It is never graded."""
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


def reveal(name: str, value: float) -> None:
    """Print how far off a guess was from the measured value; without a guess, the value stays hidden."""
    found = _find(predictions, name, "prediction")
    if name not in _guesses:
        print(f"○ {name}: you noted no guess. Make one next time: what surprises you, you remember.")
        return
    guess, value = _guesses[name], number(value)
    off = abs(guess - value)
    print(f"● {name}: you guessed {guess:.4g}{found.unit}, it is {value:.4g}{found.unit}: off by {off:.3g}.")


def number(answer: Any, finite: bool = True) -> float:
    """Return the student's answer as a float.

    Parameters
    ----------
    finite : bool
        False where the judge itself has something to say to NaN and infinity.

    Raises
    ------
    WrongAnswer
        Where it is not one number; it says what it is instead.
    """
    if isinstance(answer, (bool, np.bool_)):
        raise WrongAnswer("the answer is a number, not True or False.")
    if answer is None:
        raise WrongAnswer("the answer is a number; this is None. Does your code end in a value?")
    if isinstance(answer, str):
        raise WrongAnswer(
            f"the answer is a number; this is text ({_short(answer)}). Leave out quotation marks and the % sign."
        )
    value = _as_float(answer)
    if value is None:
        raise WrongAnswer(f"the answer is one number; this is {_a(answer)}.")
    if finite and not math.isfinite(value):
        raise WrongAnswer(f"the answer is {value:g}, which is no number that can be right: look where it comes from.")
    return value


def several(answer: Any, count: int) -> list[float]:
    """Return the answer as a list of `count` floats; raise WrongAnswer where it is not that many numbers."""
    parts = None
    if hasattr(answer, "__len__") and hasattr(answer, "__getitem__") and not isinstance(answer, (str, bytes, dict)):
        with contextlib.suppress(Exception):
            parts = list(answer)
    if parts is None:
        raise WrongAnswer(f"the answer is {count} numbers in order, such as (1, 2); this is {_a(answer)}.")
    if len(parts) != count:
        raise WrongAnswer(f"the answer is {count} numbers in order; this is {_a(answer)} of {len(parts)}.")
    return [number(part) for part in parts]


def call(function: Any, *args: Any) -> Any:
    """Return what the student's function returns for a copy of these arguments.

    Raises
    ------
    NotAnswered
        Where it still returns `...`.
    WrongAnswer
        Where it is no function, returns nothing or stops with an error.
    """
    name = name_of(function)
    if not callable(function):
        raise WrongAnswer(
            f"the answer is a function; this is {_a(function)}. Pass the function by its name, without parentheses."
        )
    if isinstance(function, sys.modules["keras"].Model if "keras" in sys.modules else ()):
        raise WrongAnswer("this is a network; pass the function that makes it by its name, without parentheses.")
    try:
        result = function(*(copy.deepcopy(arg) if isinstance(arg, (np.ndarray, list, dict)) else arg for arg in args))
    except (Exception, SystemExit) as error:
        given = ", ".join(_short(arg) for arg in args)
        raise WrongAnswer(f"{name}({given}) stopped with {type(error).__name__}: {_first_line(error)}.") from None
    _refuse_untouched(result)
    if result is None:
        raise WrongAnswer(f"{name} returns nothing. Does it end in `return`?")
    return result


def name_of(function: Callable) -> str:
    """Return what to call the student's function in a sentence; not everything that can be called has a name."""
    return getattr(function, "__name__", None) or "your function"


def first_difference(given: ArrayLike, right: ArrayLike, rtol: float = 1e-4, atol: float = 1e-6) -> int | None:
    """Return the index of the first of several numbers that is not the right one; None where all are right.

    Parameters
    ----------
    given, right : sequences of float, of equal length
        NaN is never right.
    rtol, atol : float
        As in `numpy.isclose`; the defaults fit what float32 leaves, and an answer rounded to five digits.
    """
    wrong = ~np.isclose(np.asarray(given, dtype=float), np.asarray(right, dtype=float), rtol=rtol, atol=atol)
    return int(np.flatnonzero(wrong)[0]) if wrong.any() else None


def apart(given: float, right: float) -> tuple[str, str]:
    """Return two different numbers as texts, with as many digits as it takes to tell them apart."""
    for digits in range(4, 17):
        texts = f"{given:.{digits}g}", f"{right:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return repr(given), repr(right)


def _is_rounded(value, mistake, tolerance):
    """Whether a student who made this mistake may have written `value`: the number itself, or rounded."""
    if math.isclose(value, mistake, rel_tol=tolerance):
        return True
    return mistake != int(mistake) and any(value == float(f"{mistake:.{digits}g}") for digits in range(2, 8))


def _as_float(answer):
    """The one number in an answer as a float; None where it is not one number."""
    try:
        if isinstance(answer, numbers.Real):
            return float(answer)
        array = np.empty(0) if callable(answer) or isinstance(answer, (dict, set)) else np.asarray(answer)
        return float(array.item()) if array.size == 1 and array.dtype.kind in "iuf" else None
    except Exception:  # too large for a float, or something that NumPy cannot make an array of
        return None


def _a(thing):
    """What kind of thing an answer is: "a list", "an int", "a function"."""
    kind = "function" if inspect.isroutine(thing) else type(thing).__name__
    kind = {"ndarray": "array", "NoneType": "None"}.get(kind, kind)
    return f"a{'n' * (kind[0].lower() in 'aeiou')} {kind}"


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
    if os.environ.get("LABKIT_STRICT", "0") not in ("", "0") or os.environ.get("NBGRADER_EXECUTION"):
        raise error_class(text)
    print(*in_lines(f"{mark} {text}"), sep="\n")


def _first_line(error):
    return (str(error).splitlines() or ["no message"])[0].rstrip(".")


def _short(value):
    text = repr(value)
    return text if len(text) < 40 else _a(value)
