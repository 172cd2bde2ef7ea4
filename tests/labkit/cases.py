"""The answers of all exercises, right and wrong, and the two ways to try them."""

import importlib
import pathlib

import numpy as np
from answers import Make

from labkit.exercises import check

# name: (facts for check, right answers, wrong answers with a piece of the message that each must get)
CASES = {
    "00.pixels": ({}, [784, 784.0, np.int64(784)], [
        (28, "one row"), (56, "added"), (112, "border"), (785, "bias"), ("784", "quotation"), (7, "multiply rows"),
    ]),
}  # fmt: skip
for path in sorted(pathlib.Path(__file__).parent.glob("cases_lab*.py")):
    CASES |= importlib.import_module(path.stem).CASES

# Their judges train networks, which takes long.
TRAINING = [name for name in CASES if name.startswith("08.patient-") or name == "04.deep-network"]
QUICK = [name for name in CASES if name not in TRAINING]


def made(answer):
    return answer() if isinstance(answer, Make) else answer


def right_answers_are_accepted(name, capsys):
    facts, right, _ = CASES[name]
    assert len(right) >= 2
    for answer in right:
        check(name, made(answer), **facts)
        assert capsys.readouterr().out == f"● {name}: right.\n"


def wrong_answers_are_told_why(name, capsys):
    facts, _, wrong = CASES[name]
    said = []
    for answer, piece in wrong:
        check(name, made(answer), **facts)
        line = capsys.readouterr().out
        assert line.startswith(f"✗ {name}, not solved yet: ")
        assert any(part in line for part in piece.split("|")), (piece, line)
        said.append(line)
    assert len(set(said)) >= 4, "at least four wrong answers, each with its own message"
