"""Lab 08's repairs stand in it twice: in its study, and as the solutions of its exercises. They are the same code."""

import ast

import nbformat
import pytest

from labkit.exercises import core
from labtools.project import ROOT


@pytest.fixture(scope="module")
def cells():
    lab = nbformat.read(ROOT / "notebooks" / "08_failure_clinic.ipynb", as_version=4)
    return {cell.id: cell.source for cell in lab.cells}


def solution(name):
    return core._find(core.exercises, f"08.{name}", "exercise").solution


def code(source):
    """What a source does, without its comments."""
    return ast.dump(ast.parse(source.replace("mended_", "repaired_")))


@pytest.mark.parametrize("n", range(1, 12))
def test_the_repair_in_the_study_is_the_solution(n, cells):
    assert code(solution(f"patient-{n}")) == code(cells[f"mended-{n}"])


@pytest.mark.parametrize("n", range(1, 11))
def test_a_solution_begins_with_the_letter_of_the_cause(n):
    made = {}
    exec(solution("causes"), made)
    assert solution(f"patient-{n}").startswith(f"# {made['rows'][n][2]}, ")


def test_the_clinics_table_is_the_solution(cells):
    ours, made = {}, {}
    exec(cells["clinic-rows"], ours)
    exec(solution("causes"), made)
    rows = [(symptom, test, cause[0]) for symptom, test, cause in ours["CLINIC_ROWS"]]
    assert list(made["rows"].values()) == rows
    assert list(made["rows"]) == list(range(1, 11))
