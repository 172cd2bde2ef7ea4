"""The records in notebooks/results belong to the labs' studies: each is whole, made with today's code, and on MNIST."""

import json

import nbformat
import pytest

from labtools import studies
from labtools.project import ROOT

LABS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FOLDER = ROOT / "notebooks" / "results"


def has_studies(path):
    cells = nbformat.read(path, as_version=4).cells
    return any("study" in cell.metadata.get("tags", []) for cell in cells)


@pytest.fixture(scope="module")
def recorded():
    """Every study of the labs, with the number of its lab."""
    found = [(lab.stem[:2], one) for lab in LABS if has_studies(lab) for one in studies.of_notebook(lab)]
    assert found, "a lab has cells with the tag study, but they define none"
    return found


def test_the_first_lab_with_studies_has_some(recorded):
    assert "02" in {number for number, _ in recorded}


def test_every_record_is_complete(recorded):
    assert [one.complaint() for _, one in recorded if not one.status().complete] == []


def test_every_run_is_on_mnist(recorded):
    for _, one in recorded:
        lines = one.path.read_text("utf-8").splitlines()
        assert {json.loads(line)["data"] for line in lines} == {"MNIST"}, one.path.name


def test_every_study_has_a_record_of_its_own_named_after_its_lab(recorded):
    names = [one.name for _, one in recorded]
    assert len(set(names)) == len(names)
    assert [(number, one.name) for number, one in recorded if not one.name.startswith(f"{number}.")] == []
    assert {one.path.parent for _, one in recorded} == {FOLDER}


def test_no_record_is_without_a_study_and_nothing_else_lies_there(recorded):
    here = {path.name for path in FOLDER.iterdir() if path.name != "__pycache__"}
    assert here == {one.path.name for _, one in recorded}
