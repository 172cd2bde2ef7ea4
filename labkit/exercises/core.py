"""How exercises work, whatever they ask. The exercises themselves are in lab01.py, lab06.py, ...

An exercise is a function that judges an answer. It returns Right() for a right answer and, for a wrong one,
Wrong("a sentence that says what is wrong with this very answer"). Its docstring is the question. It is registered under
"NN.name". A judge fails closed: one that stops with an error, or ends without saying either, never says "right". That
is our fault and not the student's, so it is an outcome of its own.
"""

import copy
import importlib
import inspect
import math
import numbers
import os
import sys
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabError

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
    """What `exercise` registers: its name, its judge, its hints from gentle to plain, and its solution.

    solution: code that runs in the lab, in place of the lines above `check` in the exercise's cell.
    """

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
    """Register the decorated judge as exercise `name`, with hints (gentle first) and a solution.

    solution: code that solves it in the lab's kernel: it stands where the student writes, above the call of `check`,
        and gives the name that `check` is called with. What there is to explain is a comment in it.
    """

    def register(judge):
        exercises[name] = Exercise(name, judge, tuple(hints), solution.strip())
        return judge

    return register


def number_exercise(name, *, question, right, wrong, otherwise, hints, solution, tolerance=1e-9):
    """Register an exercise whose answer is the number `right`.

    wrong: dict of plausible wrong number -> what is wrong with it; recognized when rounded, too. otherwise: what to say
        to any other number.
    tolerance: relative; larger where an answer may be rounded.
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


def prediction(name, question, low, high, unit=""):
    """Register a guess at a number between `low` and `high`."""
    predictions[name] = Prediction(name, question, low, high, unit)


def check(name, answer, **facts):
    """Say whether `answer` solves exercise `name`, and if not, why not.

    answer: what the exercise asks for; `...` counts as not answered yet.
    facts: values from the notebook that the judge compares with, where the exercise needs them.
    Prints one line. Raises LabError for a name that no exercise has, or where the facts are not those that it needs; in
    strict mode (LABKIT_STRICT=1, or while nbgrader grades) WrongAnswer or NotAnswered where the answer is not right,
    and NotCheckable where the judge failed.
    """
    found = _find(exercises, name, "exercise")
    _refuse_other_facts(found, facts)
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


def number(answer, finite=True):
    """The answer as a float. Raises WrongAnswer, saying what it is instead, where it is not one number.

    finite: False where the judge itself has something to say to NaN and infinity.
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


def several(answer, count, finite=True):
    """The answer as a list of `count` floats. Raises WrongAnswer where it is not that many numbers."""
    ordered = hasattr(answer, "__len__") and hasattr(answer, "__getitem__") and not isinstance(answer, (str, bytes))
    if isinstance(answer, (dict, set, frozenset)) or not ordered:
        raise WrongAnswer(f"the answer is {count} numbers in order, such as (1, 2); this is {_a(answer)}.")
    try:
        parts = list(answer)
    except Exception:
        raise WrongAnswer(f"the answer is {count} numbers in order, such as (1, 2); this is {_a(answer)}.") from None
    if len(parts) != count:
        raise WrongAnswer(f"the answer is {count} numbers in order; this is {_a(answer)} of {len(parts)}.")
    return [number(part, finite) for part in parts]


def call(function, *args):
    """What the student's function returns for `args`, of which it gets its own copy.

    Raises NotAnswered where it still returns `...`, WrongAnswer where it is no function, returns nothing or stops with
    an error.
    """
    name = name_of(function)
    if not callable(function):
        raise WrongAnswer(
            f"the answer is a function; this is {_a(function)}. Pass the function by its name, without parentheses."
        )
    if isinstance(function, sys.modules["keras"].Model if "keras" in sys.modules else ()):
        raise WrongAnswer("this is a network; pass the function that makes it by its name, without parentheses.")
    try:
        result = function(*(_own(arg) for arg in args))
    except (Exception, SystemExit) as error:
        given = ", ".join(_short(arg) for arg in args)
        raise WrongAnswer(f"{name}({given}) stopped with {type(error).__name__}: {_first_line(error)}.") from None
    _refuse_untouched(result)
    if result is None:
        raise WrongAnswer(f"{name} returns nothing. Does it end in `return`?")
    return result


def name_of(function):
    """What to call the student's function in a sentence; not everything that can be called has a name."""
    return getattr(function, "__name__", None) or "your function"


def first_difference(given, right, rtol=1e-4, atol=1e-6):
    """The index of the first of several numbers that is not the right one; None where all are right.

    given, right: sequences of equal length. NaN is never right. The tolerances are those of np.isclose: the usual ones
    fit what float32 leaves, and an answer rounded to five digits.
    """
    wrong = ~np.isclose(np.asarray(given, dtype=float), np.asarray(right, dtype=float), rtol=rtol, atol=atol)
    return int(np.flatnonzero(wrong)[0]) if wrong.any() else None


def apart(given, right):
    """Two different numbers as texts, with as many digits as it takes to tell them apart."""
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


def _own(arg):
    """A copy of an argument, where the student's function could change it under the judge's hands."""
    return copy.deepcopy(arg) if isinstance(arg, (np.ndarray, list, dict)) else arg


def _refuse_other_facts(found, facts):
    wanted = set(inspect.signature(found.judge).parameters) - {"answer"}
    if wanted != set(facts):
        given = "".join(f", {fact}=..." for fact in sorted(wanted))
        raise LabError(f'This check is called check("{found.name}", your answer{given}): copy its line from the lab.')


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
    return text if len(text) < 40 else f"{_a(value)}"
