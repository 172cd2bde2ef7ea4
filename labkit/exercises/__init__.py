"""Questions in the labs: check an answer, get a hint or the solution, note a prediction and see how far off it was."""

from labkit.exercises.core import NotAnswered, NotCheckable, WrongAnswer, check, hint, predict, reveal, solution

__all__ = ["NotAnswered", "NotCheckable", "WrongAnswer", "check", "hint", "predict", "reveal", "solution"]
