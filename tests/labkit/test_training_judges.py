"""Judges that train networks: different right answers and plausible wrong ones, as for all other exercises."""

import pytest
from cases import TRAINING, right_answers_are_accepted, wrong_answers_are_told_why

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TRAINING)
def test_right_answers_are_accepted(name, capsys):
    right_answers_are_accepted(name, capsys)


@pytest.mark.parametrize("name", TRAINING)
def test_wrong_answers_are_told_why(name, capsys):
    wrong_answers_are_told_why(name, capsys)
