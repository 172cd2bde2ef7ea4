"""Conclusions that are run, not typed: each one is a sentence with a condition that must hold."""

import numpy as np

from labkit.errors import LabError


class ClaimFailed(LabError, AssertionError):
    """A claim whose condition is false. The message is the claim's sentence."""


def claim(sentence: str, condition: bool | np.bool_) -> None:
    """Print a sentence with a tick if its condition holds.

    Parameters
    ----------
    sentence : str
        What the evidence shows, as a reader would say it.
    condition : bool
        Or an array or tensor of type bool and shape ().

    Raises
    ------
    ClaimFailed
        Where the condition is False.
    LabError
        Where it is not a truth value: a claim about a list, a model or an accuracy could never fail.
    """
    truth = np.asarray(condition)
    if truth.dtype != bool or truth.ndim:
        raise LabError(
            f"The condition of a claim is True or False, for example `a > b`; this one is a {type(condition).__name__}."
        )
    if not truth:
        raise ClaimFailed(sentence)
    print(f"✓ {sentence}")
