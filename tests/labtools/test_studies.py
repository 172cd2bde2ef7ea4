"""The studies of notebooks, and `labs record`."""

import shutil
import textwrap

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tiny_study import CODE, TINY, digest, edit, tiny, without

from labkit import study
from labkit.errors import LabError
from labtools import cli, project, run, studies


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The tiny study, recorded."""
    one = tiny(tmp_path_factory.mktemp("recorded"))
    assert one.record(jobs=1) == 4
    return one


def write(path, *cells):
    """Write a notebook. cells: source text with the tag study, or (source,) without."""
    made = [
        new_code_cell(cell[0] if isinstance(cell, tuple) else textwrap.dedent(cell), id=f"c{number}")
        for number, cell in enumerate(cells)
    ]
    for cell, source in zip(made, cells, strict=True):
        if not isinstance(source, tuple):
            cell.metadata.tags = ["nbval-ignore-output", "study"]
    nbformat.write(new_notebook(cells=made), path)
    return path


def test_a_notebook_and_its_kernel_agree_on_the_digest(tmp_path):
    head, tail = CODE.split("class Layer:")
    unrelated = ("x = [1, 2, 3]\nprint('not tagged')\nadd, inner, units = 4, 5, 6",)
    path = write(tmp_path / "02_a.ipynb", unrelated, head, "class Layer:" + tail, ("print(one.digest, one)",))
    (result,) = run.run([path], jobs=1, save=True, report=lambda _: None)
    assert result.failure is None
    (one,) = studies.of_notebook(path)
    printed = nbformat.read(path, as_version=4).cells[3].outputs[0].text
    assert printed == f"{one.digest} {one!r}\n"
    assert one.digest == digest()


def test_of_a_notebook_only_tagged_cells_are_run(tmp_path, capsys):
    new = "two = study.Study('02.y', build, load, {'n': [1], 'units': [2]}, seeds=[1], epochs=1, batch_size=1)"
    path = write(tmp_path / "02_a.ipynb", ("1 / 0",), CODE, ("print('never')\nDEPTH = 9",), new, ("1 / 0",))
    found = studies.of_notebook(path)
    assert [one.name for one in found] == ["02.x", "02.y"]
    assert found[0].digest == digest()
    assert capsys.readouterr().out == ""
    assert studies.of_notebook(write(tmp_path / "03_b.ipynb", ("1 / 0",))) == []


def test_a_name_that_a_later_cell_gives_another_meaning_does_not_change_an_earlier_study(tmp_path):
    path = write(tmp_path / "02_a.ipynb", CODE, "DEPTH = 9")
    with pytest.raises(LabError, match=r"cell c1 changes what study 02\.x .*another name"):
        studies.of_notebook(path)


@pytest.mark.parametrize("source", ["x = 1\nx / 0", "x =", "import no_such_module"])
def test_an_error_in_a_tagged_cell_names_the_cell(tmp_path, source):
    path = write(tmp_path / "02_a.ipynb", "a = 1", source)
    with pytest.raises(LabError, match=r"^02_a, cell c1 stopped with [A-Z][A-Za-z]+Error: "):
        studies.of_notebook(path)


# ---- labs record -------------------------------------------------------------------------------------------


@pytest.fixture
def labs(tmp_path, monkeypatch):
    """A folder with one lab that has the tiny study, and one that has none; MNIST seems to be here."""
    folder = tmp_path / "labs"
    folder.mkdir()
    monkeypatch.setattr(project, "NOTEBOOKS", folder)
    monkeypatch.setattr(cli, "_have_mnist", lambda: True)
    monkeypatch.setattr(project, "fix_data_path", lambda: None)
    head, tail = TINY.split("tiny = ")
    write(folder / "02_a.ipynb", f"FOLDER = {str(folder / 'results')!r}\n{head}", f"tiny = {tail}", ("tiny.load()",))
    write(folder / "01_b.ipynb", ("1 / 0",))
    return folder


@pytest.mark.slow
def test_labs_record_trains_what_is_missing_and_check_trains_nothing(labs, recorded, capsys):
    assert cli.main(["record", "02", "--check"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Study 02.tiny is not complete: 4 of its runs are missing") and err == ""
    assert not (labs / "results").exists()
    (labs / "results").mkdir()
    shutil.copy(recorded.path, labs / "results")
    edit(labs / "results", without(3))
    assert cli.main(["record", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.endswith("02.tiny: 4 runs recorded, 1 of them now.\n")
    assert cli.main(["record", "2", "--check"]) == 0
    assert capsys.readouterr().out == "All 1 records are complete.\n"
    assert cli.main(["record", "02"]) == 0
    assert capsys.readouterr().out == "02.tiny: 4 runs recorded, 0 of them now.\n"


def test_labs_record_without_studies_says_so(labs, capsys):
    assert cli.main(["record", "01"]) == 1
    assert capsys.readouterr().err == "These labs have no studies, so there is nothing to record.\n"


def test_labs_record_wants_mnist_but_check_does_not(labs, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setattr(project, "NOTEBOOKS", labs)
    monkeypatch.setenv("LABKIT_DATA", "digits")
    assert cli.main(["record", "02"]) == 1
    assert capsys.readouterr().err == "Studies are recorded on MNIST, which is not here: see `labs data`.\n"
    assert not (labs / "results").exists()
    assert cli.main(["record", "02", "--check"]) == 1
    assert "4 of its runs are missing" in capsys.readouterr().out


def test_labs_record_stopped_by_ctrl_c_says_what_is_kept(labs, monkeypatch, capsys):
    def record(self, jobs=None, backend=None):
        assert jobs == 3
        raise KeyboardInterrupt

    monkeypatch.setattr(study.Study, "record", record)
    assert cli.main(["record", "02", "--jobs", "3"]) == 130
    assert capsys.readouterr().err == "\nStopped. What had ended is recorded; `labs record` goes on from there.\n"


@pytest.mark.slow
def test_labs_record_says_in_one_sentence_which_run_failed(labs, capsys):
    notebook = nbformat.read(labs / "02_a.ipynb", as_version=4)
    notebook.cells[0].source = notebook.cells[0].source.replace("hidden = keras", "hidden = no_keras")
    nbformat.write(notebook, labs / "02_a.ipynb")
    assert cli.main(["record", "02", "--jobs", "1"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Study 02.tiny stopped, because its run n=64, width=narrow with seed 2 failed with NameError")
    assert err.count("\n") == 1
