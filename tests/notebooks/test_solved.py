"""Each lab with every answer filled in from its solutions: in strict mode, at its own sizes, on both data sets."""

import re

import nbformat
import pytest
import solving

from labkit import data
from labtools import project, run

LABS = sorted(project.NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("digits", [False, True], ids=["mnist", "digits"])
@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_every_exercise_is_solved_by_its_own_solution(path, digits, tmp_path, monkeypatch):
    if digits:
        monkeypatch.setenv("LABKIT_DATA", "digits")
    elif not data.has_mnist():
        pytest.skip("MNIST is not here")
    monkeypatch.setenv("LABKIT_STRICT", "1")
    lab = solving.read(path)
    names = solving.solve(lab)
    nbformat.write(lab, tmp_path / path.name)
    (result,) = run.run([tmp_path / path.name], jobs=1, threads=1, save=True, report=lambda _: None)
    assert result.failure is None
    assert right_in(solving.read(tmp_path / path.name)) == names


def test_strict_mode_stops_a_lab_at_its_first_open_question(monkeypatch):
    monkeypatch.setenv("LABKIT_STRICT", "1")
    (result,) = run.run(project.find_labs(["00"]), jobs=1, report=lambda _: None)
    assert "exercise-pixels-answer" in result.failure
    assert "not answered yet" in result.failure


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_syntax_error_in_one_exercise_costs_only_that_one(path):
    """What the exercises need from labkit is imported before the first of them."""
    cells = [cell for cell in solving.read(path).cells if cell.cell_type == "code"]
    asking = [i for i, cell in enumerate(cells) if re.search(r"^(check|predict|reveal)\(", cell.source, re.M)]
    for i, cell in enumerate(cells):
        if re.search(r"from labkit\.exercises import", cell.source):
            assert i < min(asking, default=len(cells)), cell.id


def right_in(lab):
    """The exercises of which a lab's outputs say that they are right, in order."""
    outputs = [output for cell in lab.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    return re.findall(r"^● ([\w.-]+): right\.$", text, re.M)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('answer = ...\ncheck("00.pixels", answer)', 'answer = 784\ncheck("00.pixels", answer)'),
        (
            'size = 28\n\nanswer = ...\ncheck("00.pixels", answer)',
            'size = 28\n\nanswer = 784\ncheck("00.pixels", answer)',
        ),
        (
            'def answer(x):\n    return ...\n\n\ncheck("00.pixels", answer)',
            'answer = 784\n\n\ncheck("00.pixels", answer)',
        ),
    ],
)
def test_a_solution_takes_the_place_of_the_placeholder_alone(source, expected):
    assert solving.filled(source, "answer = 784") == expected
