import numpy as np
import pytest

from labkit.claims import ClaimFailed, claim
from labkit.errors import LabError


def test_a_true_claim_prints_its_sentence(capsys):
    claim("Two is more than one", len("ab") > 1)
    assert capsys.readouterr().out == "✓ Two is more than one\n"


@pytest.mark.parametrize("condition", [False, np.False_, np.float32(1) > 2, np.array(False), np.float64("nan") > 0])
def test_a_false_claim_raises_its_sentence(condition, capsys):
    with pytest.raises(ClaimFailed, match=r"^Pigs fly$"):
        claim("Pigs fly", condition)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("condition", [0.97, 1, "yes", [True], None, np.array([True, True]), print, {}, object()])
def test_what_is_no_truth_value_is_refused(condition):
    with pytest.raises(LabError, match="True or False"):
        claim("This could never fail", condition)


def test_numpy_truth_is_accepted(capsys):
    claim("NumPy agrees", np.float32(2) > 1)
    claim("So does an array of no dimensions", np.array(True))
    assert capsys.readouterr().out.count("✓") == 2


def test_tensors_of_truth_are_accepted(capsys):
    from keras import ops

    claim("Tensors compare", ops.convert_to_tensor(2.0) > 1)
    with pytest.raises(ClaimFailed):
        claim("Tensors compare falsely", ops.convert_to_tensor(2.0) < 1)


def test_a_notebook_shows_the_sentence_without_a_stack_trace():
    assert ClaimFailed("Pigs fly")._render_traceback_() == ["ClaimFailed: Pigs fly"]
