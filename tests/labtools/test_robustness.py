"""labs robustness: seeds move on so that no two runs share one, and each claim that does not hold is told."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from labtools import project, robustness


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("SEED = 1\nx = SEED", "SEED = 4\nx = SEED"),
        ("SEEDS = (1, 2)  # why", "SEEDS = (7, 8)  # why"),
        ("SEEDS = (5,)", "SEEDS = (8,)"),
        ("x = 1  # SEED = 1\n  SEED = 1\nMY_SEED = 1", "x = 1  # SEED = 1\n  SEED = 1\nMY_SEED = 1"),
    ],
)
def test_seeds_move_on_and_nothing_else_changes(source, expected):
    assert robustness.moved(source, 3) == expected


@pytest.mark.parametrize("path", [path for path in project.find_labs() if path.name[:2] != "00"], ids=lambda p: p.stem)
def test_every_seed_of_a_lab_is_found(path):
    lines = [line for cell in project.read_notebook(path).cells for line in cell.source.splitlines()]
    seeds = [line for line in lines if re.match(r"SEEDS?\b.* = ", line)]
    assert seeds and all(robustness.moved(line, 1) != line for line in seeds)


def test_each_run_that_fails_is_told_with_its_seeds_and_data_and_the_file_stays_as_it_is(tmp_path):
    cells = ["import os\nSEED = 1\nfrom labkit.claims import claim", "claim('It is small', SEED < 3)",
             "claim('It is MNIST', os.environ['LABKIT_DATA'] != 'digits')"]  # fmt: skip
    path = tmp_path / "97_small.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(one, id=f"c{n}") for n, one in enumerate(cells)]), path)
    before, told = path.read_bytes(), []
    failures = robustness.check([path], {"MNIST": "", "digits": "digits"}, seeds=2, jobs=1, report=told.append)
    assert failures == [
        "97_small, MNIST, seeds moved on 2 times: cell c1: It is small",
        "97_small, digits, seeds moved on 1 times: cell c2: It is MNIST",
        "97_small, digits, seeds moved on 2 times: cell c1: It is small; cell c2: It is MNIST",
    ]
    assert len(told) == 4 and told[1:] == failures and "all claims hold" in told[0]
    assert path.read_bytes() == before
