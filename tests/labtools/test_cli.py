"""The `labs` command and what runs labs for it, on small notebooks made here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock, patch

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit import data
from labkit.errors import LabError
from labtools import cli, doctor, packages, project, run, site

CLAIM = "from labkit.claims import claim"
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals are sent")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Commands set environment variables and change folders: undo that after each test."""
    monkeypatch.chdir(Path.cwd())
    with patch.dict(os.environ):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of labs."""
    monkeypatch.setattr(project, "NOTEBOOKS", tmp_path)
    return tmp_path


def write(path, *sources, old=""):
    """Write a notebook whose code cells have the ids c0, c1, ..., and each the output `old`."""
    outputs = [nbformat.v4.new_output("stream", text=old)] if old else []
    cells = [new_code_cell(source, id=f"c{n}", outputs=outputs) for n, source in enumerate(sources)]
    kernel = {"kernelspec": {"name": "no-such-kernel", "display_name": "Mine"}}
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A lab", id="title"), *cells], metadata=kernel), path)
    return path


def outputs(path):
    """Each code cell's text output."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return ["".join(out.get("text") or out["data"]["text/plain"] for out in cell.outputs) for cell in cells]


def failures(*paths, **options):
    return [result.failure for result in run.run(paths, len(paths), report=lambda _: None, **options)]


# ---- labs run ----------------------------------------------------------------------------------------------


def test_run_prints_a_line_per_lab_and_names_the_cell_and_the_sentence_of_a_failure(folder, capsys):
    write(folder / "01_good.ipynb", CLAIM, "claim('One is less than two', 1 < 2)\nprint('✓ another')", "2 + 2")
    write(folder / "02_false.ipynb", CLAIM, "claim('Pigs fly', False)", old="✓ what an earlier run printed\n")
    write(folder / "03_error.ipynb", "raise ValueError('too big\\nand a second line')")
    assert cli.main(["run"]) == 1
    out, err = capsys.readouterr()
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert [lines["01_good"][n] for n in (1, 2, -1)] == ["3", "2", "ok"]
    assert [lines["02_false"][n] for n in (1, 2, -1)] == ["2", "0", "FAILED"]
    assert "  02_false, cell c1: Pigs fly\n" in out and "  03_error, cell c0: ValueError: too big\n" in out
    assert out.endswith("2 of 3 FAILED: 02_false, 03_error\n") and err == ""


def test_save_stores_outputs_of_labs_that_ran_and_of_no_others(folder, capsys):
    from nbconvert import ScriptExporter

    pieces = "import sys\nfor text in 'a', 'é':\n    print(text, flush=True); print('!', file=sys.stderr, flush=True)"
    good = write(folder / "01_good.ipynb", pieces, "%cd -q .\n6 * 7")
    bad = write(folder / "02_bad.ipynb", "print('b')", "assert False")
    before = bad.read_bytes()
    assert cli.main(["run", "1"]) == 0 and outputs(good) == ["", ""], "nothing is stored unless asked for"
    assert cli.main(["run", "--save"]) == 1 and bad.read_bytes() == before
    assert outputs(good)[0] == "a\né\n!\n!\n", "each stream in one piece"
    notebook = nbformat.read(good, as_version=4)
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert all(cell.metadata == {} for cell in notebook.cells) and "version" not in notebook.metadata.language_info
    script, about = ScriptExporter().from_filename(good)
    assert about["output_extension"] == ".py" and "# # A lab" in script and compile(script, "script", "exec")
    text = good.read_text("utf-8")
    assert text.endswith("}\n") and "é" in text, "a last newline; letters, not escapes"
    assert cli.main(["run", "01", "--save"]) == 0 and good.read_text("utf-8") == text, "a second run changes nothing"


@posix_only
def test_a_lab_that_cannot_be_saved_is_a_failure(folder):
    path = write(folder / "01_a.ipynb", "import os, shutil; shutil.rmtree(os.getcwd())")
    assert failures(path, save=True)[0].startswith("Its outputs could not be saved (No such file or directory), so")


@pytest.mark.parametrize("state", ["MNIST", "no such file"])
def test_stored_outputs_that_are_not_of_mnist_are_pointed_out(folder, monkeypatch, capsys, state):
    places(monkeypatch, state)
    write(folder / "01_good.ipynb", "6 * 7")
    for arguments, careful in ((["run", "--save"], True), (["run"], False)):
        assert cli.main(arguments) == 0
        printed = capsys.readouterr().out
        assert ("Run without MNIST" in printed) == (state != "MNIST")
        assert ("CAREFUL" in printed) == (careful and state != "MNIST")


def test_kernels_are_this_python_in_the_labs_folder_whatever_the_user_has_set(folder, monkeypatch):
    for name, text in (
        ("kernels/python3/kernel.json", '{"argv": ["no-such-python"], "display_name": "x", "language": "python"}'),
        ("profile_default/ipython_kernel_config.py", "c.InteractiveShell.ast_node_interactivity = 'all'"),
        ("profile_default/startup/mine.py", "print('from my profile')"),
        ("start.py", "mine = 1"),
    ):
        (folder / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "own" / name).write_text(text, encoding="utf-8")
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_PATH", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(folder / "own"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("PYTHONSTARTUP", str(folder / "own" / "start.py"))
    path = write(folder / "01_a.ipynb", "import os, sys; print(sys.executable, os.getcwd())", "1\n'mine' in vars()")
    assert failures(path, save=True) == [None]
    assert outputs(path) == [f"{sys.executable} {folder.resolve()}\n", "False"]


@pytest.mark.parametrize("arguments, expected", [
    (["--jobs", "1"], "None"), (["--jobs", "2"], "1"), (["--jobs", "2", "--threads", "3"], "3"),
    (["--jobs", "1", "--threads", "2"], "2"),
])  # fmt: skip
def test_each_kernel_gets_one_thread_when_labs_run_side_by_side(folder, monkeypatch, arguments, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    source = "import os; print(os.environ['LABKIT_LIVE'], os.environ.get('OMP_NUM_THREADS'))"
    paths = [write(folder / f"0{number}_a.ipynb", source) for number in range(2)]
    assert cli.main(["run", "--save", *arguments]) == 0
    assert outputs(paths[0]) == [f"0 {expected}\n"]


def test_labs_run_side_by_side_and_are_reported_as_they_finish(folder):
    # Each waits for the other to start, which one after the other they never would.
    meet = (
        "import pathlib, time\npathlib.Path('{}').touch()\nstart = time.time()\n"
        "while not pathlib.Path('{}').exists():\n    time.sleep(0.05)\n    assert time.time() < start + 20\n"
    )
    # The slow one also waits until the fast one has been reported.
    paths = [write(folder / "01_slow.ipynb", meet.format("a", "b") + meet.format("c", "02_fast"))]
    paths.append(write(folder / "02_fast.ipynb", meet.format("b", "a")))
    finished = []
    results = run.run(paths, 2, report=lambda one: (finished.append(one.name), (folder / one.name).touch()))
    assert finished == ["02_fast", "01_slow"] == [one.name for one in results if one.failure is None][::-1]


def test_peak_memory_and_seconds_are_measured(folder):
    path = write(folder / "01_big.ipynb", "import time\nx = b'x' * 300_000_000\ntime.sleep(0.6)\ndel x")
    (result,) = run.run([path], jobs=1, report=lambda _: None)
    assert 340 < result.peak_mb < 700 and 0.6 < result.seconds < 60


@posix_only
@pytest.mark.parametrize("code, said", [
    ("os.kill(os.getpid(), signal.SIGILL)", "too old for TensorFlow (no AVX). Use Binder or Colab."),
    ("os.kill(os.getpid(), signal.SIGKILL)", "most likely because the memory ran out"),
    ("os._exit(3)", "ended with exit status 3: if the cell does not end it, see what `labs doctor` says."),
])  # fmt: skip
def test_a_kernel_that_dies_is_told_with_the_cause_and_the_cell(folder, code, said):
    (failure,) = failures(write(folder / "01_dead.ipynb", "1", f"import os, signal; {code}"))
    assert failure.startswith("cell c1: The kernel ") and said in failure


def test_one_lab_that_hangs_or_is_no_notebook_does_not_stop_the_others(folder, monkeypatch):
    stuck = write(folder / "01_stuck.ipynb", "import time; time.sleep(60)")
    (folder / "02_broken.ipynb").write_text("<<<<<<< HEAD", encoding="utf-8")
    monkeypatch.setattr(run, "CELL_SECONDS", 4)
    found = failures(stuck, folder / "02_broken.ipynb", write(folder / "03_good.ipynb", "1"))
    assert found[0] == "cell c0: The cell was stopped after 4 seconds." and "no notebook" in found[1] and not found[2]


def test_a_kernel_that_does_not_start_is_one_sentence(folder, monkeypatch):
    path = write(folder / "01_a.ipynb", "1")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    (failure,) = failures(path)
    assert (
        failure.startswith("the start of the kernel: It could not go on (FileNotFoundError: ") and "doctor" in failure
    )


@posix_only
def test_ctrl_c_stops_every_lab_and_says_so(folder):
    for number in range(3):
        write(folder / f"0{number}_a.ipynb", f"open('{number}', 'w').close()\nimport time; time.sleep(60)")
    code = "from pathlib import Path; from labtools import cli, project; project.NOTEBOOKS = Path.cwd(); "
    command = [sys.executable, "-c", code + "raise SystemExit(cli.main(['run', '--jobs', '2']))"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not all((folder / str(n)).exists() for n in range(2)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err, len(out.splitlines())) == (130, "\nStopped.\n", 1), "only the heading, no failure"


# ---- labs test ---------------------------------------------------------------------------------------------


@pytest.fixture
def pytest_arguments(monkeypatch):
    """What `labs test` gives to pytest, which is not run."""
    seen = []
    monkeypatch.setattr(packages, "need", lambda: seen.append("needs"))
    monkeypatch.setattr(pytest, "main", lambda arguments: seen.extend(arguments) or 5)
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    return seen


def places(monkeypatch, *states):
    monkeypatch.setattr(data, "status", lambda: [(f"place {n}", f"path {n}", state) for n, state in enumerate(states)])
    monkeypatch.setattr(data, "has_mnist", lambda: "MNIST" in states)


def test_outputs_are_compared_on_mnist(monkeypatch, pytest_arguments, capsys):
    places(monkeypatch, "does not exist", "MNIST")
    assert cli.main(["test", "-k", "xor", "tests/test_data.py", "-x"]) == 5, "pytest's exit status is passed on"
    assert pytest_arguments[0] == "needs", "first, what students do not have is installed"
    assert "--nbval" in pytest_arguments and "--nbval-current-env" in pytest_arguments
    assert pytest_arguments[-4:] == ["-k", "xor", "tests/test_data.py", "-x"] and "not slow" in pytest_arguments
    assert pytest_arguments[pytest_arguments.index("--dist") + 1] == "loadfile"
    assert Path.cwd() == project.ROOT and "LABKIT_DATA" not in os.environ and capsys.readouterr().out == ""


@pytest.mark.parametrize("there", ["digits", "no network", "network"])
def test_without_mnist_it_is_fetched_once_or_outputs_are_not_compared(monkeypatch, pytest_arguments, capsys, there):
    fetch = Mock(side_effect=LabError("No network here.") if there == "no network" else None)
    places(monkeypatch, "does not exist")
    monkeypatch.setattr(data, "fetch", fetch)
    if there == "digits":
        monkeypatch.setenv("LABKIT_DATA", "digits")
    assert cli.main(["test", "-m", "slow"]) == 5 and "not slow" not in pytest_arguments
    out = capsys.readouterr().out
    assert fetch.call_count == ("downloading" in out) == (there != "digits")
    assert ("No network here." in out) == (there == "no network")
    assert ("NOT COMPARED" in out) == ("--nbval-lax" in pytest_arguments) == (there != "network")
    assert ("--nbval" in pytest_arguments) == (there == "network") == ("LABKIT_DATA" not in os.environ)


@pytest.mark.parametrize("command", ["test", "data"])
def test_a_wrong_labkit_data_is_one_sentence(monkeypatch, pytest_arguments, capsys, command):
    monkeypatch.setenv("LABKIT_DATA", "no/such/folder")
    monkeypatch.setattr(data, "fetch", lambda: pytest.fail("a download would not help"))
    assert cli.main([command]) == 1
    err = capsys.readouterr().err
    assert err.startswith("LABKIT_DATA leads to ") and err.count("\n") == 1
    assert "--nbval" not in pytest_arguments


# ---- The rest of the command -------------------------------------------------------------------------------


def test_without_arguments_the_index_is_opened_with_this_pythons_kernel(monkeypatch, folder):
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyterlab.labapp import LabApp

    index, lab = write(folder / "00_index.ipynb"), write(folder / "06_b.ipynb")
    other = folder / "share" / "kernels" / "python3" / "kernel.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"argv": ["other-python"], "display_name": "x", "language": "python"}', encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share"))
    seen = []
    monkeypatch.setattr(LabApp, "launch_instance", seen.append)
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == "other-python"
    assert cli.main([]) == 0 and cli.main(["open", "6", "--no-browser"]) == 0
    root = f"--ServerApp.root_dir={project.ROOT}"
    assert seen == [[str(index), root], [str(lab), root, "--no-browser"]]
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] != "other-python"


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--nonsense"], ["run", "--jobs=0"], ["doctor", "extra"]])
def test_bad_usage_is_exit_status_2_and_no_command(monkeypatch, capsys, arguments):
    monkeypatch.setattr(cli, "COMMANDS", {})
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2 and arguments[-1].partition("=")[0] in capsys.readouterr().err


def test_without_its_labs_every_command_but_the_doctor_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(project, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(doctor, "main", lambda: 7)
    assert cli.main(["run"]) == 1 and cli.main(["doctor"]) == 7
    err = capsys.readouterr().err
    assert "run `python3 labs.py` in the folder of the course" in err and err.count("\n") == 1


@pytest.mark.parametrize("error, is_bug", [(ModuleNotFoundError("No module named 'spam'"), False),
                         (ImportError("DLL load failed"), False), (AttributeError("an old NumPy"), True)])  # fmt: skip
def test_an_error_that_nobody_foresaw_leads_to_the_doctor(monkeypatch, capsys, error, is_bug):
    monkeypatch.setitem(cli.COMMANDS, "data", Mock(side_effect=error))
    assert cli.main(["data"]) == 1
    err = capsys.readouterr().err
    assert err.endswith(f"{type(error).__name__}: {error}. `labs doctor` looks for the cause in this Python.\n")
    assert ("Traceback" in err) == is_bug, "without a trace, we could not mend it"


def test_data_shows_the_places_and_fetches_only_what_is_missing(monkeypatch, pytest_arguments, capsys):
    fetch = Mock(return_value=Path("cache"))
    monkeypatch.setattr(data, "fetch", fetch)
    places(monkeypatch, "does not exist", "MNIST")
    assert cli.main(["data"]) == 0 and fetch.call_count == 0
    assert capsys.readouterr().out == "place 0: path 0 does not exist.\nplace 1: path 1 is MNIST.\n"
    assert cli.main(["data", "--fetch"]) == 0 and fetch.call_count == 1
    places(monkeypatch, "does not exist")
    assert cli.main(["data"]) == 0 and fetch.call_count == 2
    monkeypatch.setenv("LABKIT_DATA", "digits")
    assert cli.main(["data"]) == 0 and fetch.call_count == 2


def test_site_and_bench_get_their_arguments(monkeypatch, pytest_arguments, tmp_path):
    seen = []
    monkeypatch.setattr(site, "main", lambda *arguments: seen.append(arguments))
    cli.main(["site"]), cli.main(["site", "--check"]), cli.main(["site", "--address", "URL"])
    assert seen == [(False, None), (True, None), (False, "URL")]
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "run.py").write_text("import sys; sys.exit(len(sys.argv))", encoding="utf-8")
    monkeypatch.setattr(project, "ROOT", tmp_path)
    assert cli.main(["bench", "--fast", "01"]) == 3 and pytest_arguments == ["needs"]


def test_the_command_starts_without_loading_anything_heavy():
    heavy = {"numpy", "tensorflow", "nbclient", "pytest", "psutil", "jupyterlab"}
    code = f"import sys; from labtools import cli; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project.ROOT)
    assert done.stdout == "set()\n"
