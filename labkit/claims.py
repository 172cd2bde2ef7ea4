"""Conclusions that are run, not typed: each one is a sentence with a condition that must hold."""

import numbers

import numpy as np

from labkit.errors import LabError


class ClaimFailed(LabError, AssertionError):
    """A claim whose condition is false. The message is the claim's sentence."""


def claim(sentence, condition):
    """Print `sentence` with a tick if `condition` holds.

    sentence: what the evidence shows, as a reader would say it.
    condition: True or False (a bool, or a NumPy or framework scalar of type bool).
    Raises ClaimFailed with the sentence where the condition is False, and LabError where it is not a truth value:
    a claim about a list, a model or an accuracy could never fail.
    """
    value = condition
    if not isinstance(value, (bool, np.bool_)):
        # A comparison of tensors gives a boolean tensor of no dimensions; anything else has lost its comparison.
        array = None if isinstance(value, (numbers.Number, str)) else np.asarray(value)
        if array is None or array.dtype != bool or array.ndim:
            raise LabError(
                f"The condition of a claim is True or False, for example `a > b`; this one is a {type(value).__name__}."
            )
        value = array
    if not value:
        raise ClaimFailed(sentence)
    print(f"✓ {sentence}")
