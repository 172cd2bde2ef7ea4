"""This copy of the course: its labs are found, its notebooks read in one place, its paths put right."""

import os
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from labkit.errors import LabError
from labtools import project


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The notebooks of a course with the labs 01_a and 06_scratch_xor, of which its README lists the second."""
    monkeypatch.setattr(project, "ROOT", tmp_path)
    monkeypatch.setattr(project, "NOTEBOOKS", tmp_path / "notebooks")
    project.NOTEBOOKS.mkdir()
    for name in ("01_a", "06_scratch_xor", "notes"):
        (project.NOTEBOOKS / f"{name}.ipynb").touch()
    (tmp_path / "README.md").write_text("| [XOR](notebooks/06_scratch_xor.ipynb) |", encoding="utf-8")
    return project.NOTEBOOKS


def found(*names):
    return [path.stem for path in project.find_labs(names)]


def test_labs_are_found_by_number_name_or_path_in_order(folder, monkeypatch):
    assert found() == found("06_scratch_xor", "1") == found("6", "01_a.ipynb") == ["01_a", "06_scratch_xor"]
    monkeypatch.chdir(folder.parent)
    assert found("notebooks/01_a.ipynb") == ["01_a"]
    for unknown in ("07", "6_scratch", "elsewhere/01_a.ipynb"):
        with pytest.raises(LabError, match=f"There is no lab {unknown}: choose from 01, 06[.]$"):
            found(unknown)
    monkeypatch.setattr(project, "NOTEBOOKS", folder / "none")
    with pytest.raises(LabError, match=r"There are no labs in .*clone"):
        found()


@pytest.mark.parametrize("copy", ["06_scratch_xor-Copy1", "06_scratch_xor_old", "06_Mueller", "06_a"])
def test_a_copy_never_takes_the_place_of_a_lab(folder, copy):
    (folder / f"{copy}.ipynb").touch()
    assert found() == ["01_a", "06_scratch_xor"] and found("06") == found("06_scratch_xor") == ["06_scratch_xor"]
    assert found(copy) == [copy]
    (folder.parent / "README.md").write_text("no table", encoding="utf-8")
    with pytest.raises(LabError, match=f"the number 06: .*{copy}"):
        found("1", "06")


GOOD = nbformat.writes(new_notebook(cells=[new_code_cell("1", id="c")]))
OLD = GOOD.replace('"id": "c",', "").replace('"nbformat_minor": 5', '"nbformat_minor": 4')
BROKEN = [None, b"", b"<<<<<<< HEAD", b"{}", b"[]", b"null", GOOD.encode("utf-16"),
          GOOD.replace("outputs", "x").encode(), GOOD.replace('"nbformat": 4', '"nbformat": 5').encode()]  # fmt: skip


@pytest.mark.parametrize("content", [GOOD.encode(), GOOD.encode("utf-8-sig"), OLD.encode()], ids=["", "BOM", "old"])
def test_a_notebook_is_read_and_its_cells_have_ids(tmp_path, content):
    (tmp_path / "a.ipynb").write_bytes(content)
    assert project.read_notebook(tmp_path / "a.ipynb").cells[0].id


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("way", ["`git checkout ", "download the course again"])
def test_what_is_no_notebook_is_named_with_the_way_back(folder, content, way):
    (folder.parent / (".git" if way.startswith("`git") else "other")).touch()
    if content is not None:
        (folder / "09_a.ipynb").write_bytes(content)
    with pytest.raises(LabError, match=f"^09_a.ipynb (is no notebook|cannot be read) .*{way}"):
        project.read_notebook(folder / "09_a.ipynb")


def test_a_relative_data_folder_is_looked_for_here_and_then_in_the_project(folder, monkeypatch, tmp_path_factory):
    here = tmp_path_factory.mktemp("elsewhere")
    (here / "here").mkdir()
    monkeypatch.chdir(here)
    cases = {"here": here / "here", "data": folder.parent / "data", str(here / "no"): here / "no", "digits": "digits"}
    for given, expected in cases.items():
        monkeypatch.setenv("LABKIT_DATA", given)
        project.fix_data_path()
        assert os.environ["LABKIT_DATA"] == str(expected)


@pytest.mark.skipif(os.name == "nt", reason="there, HOME is not where Python looks")
def test_where_the_system_knows_no_home_kernels_get_a_private_folder(monkeypatch, tmp_path):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "/somewhere")
    project.fix_home()
    assert os.environ["HOME"] == "/somewhere"
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(2):  # the second time, it is there
        project.fix_home()
    home = Path(os.environ["HOME"])
    assert home.parent == tmp_path and home.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(LabError, match="is not yours"):
        project.fix_home()
