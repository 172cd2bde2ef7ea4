"""The `labs` command, and the runner and pytest settings behind it, on small notebooks made here."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit import cli, data, runner
from labkit.errors import LabError

CLAIM = "from labkit.claims import claim"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Commands set environment variables and change folders: undo that after each test."""
    before = dict(os.environ)
    monkeypatch.chdir(Path.cwd())
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of labs."""
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path)
    return tmp_path


def write(path, *sources, **metadata):
    """Write a notebook whose code cells have the ids c0, c1, ..."""
    cells = [new_code_cell(source, id=f"c{number}") for number, source in enumerate(sources)]
    notebook = new_notebook(cells=[new_markdown_cell("# A lab", id="title"), *cells], metadata=metadata)
    nbformat.write(notebook, path)
    return path


def outputs(path):
    """Return each code cell's text output."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return ["".join(out.get("text") or out["data"]["text/plain"] for out in cell.outputs) for cell in cells]


def commands_called(monkeypatch):
    called = []
    monkeypatch.setattr(cli, "COMMANDS", dict.fromkeys(cli.COMMANDS, lambda chosen: called.append(chosen) or 0))
    return called


# ---- labs run ----------------------------------------------------------------------------------------------


def test_run_prints_a_line_per_lab_and_names_the_cell_and_the_sentence_of_a_failure(folder, capsys):
    write(folder / "01_good.ipynb", CLAIM, "claim('One is less than two', 1 < 2)\nprint('✓ another')", "2 + 2")
    write(folder / "02_false.ipynb", CLAIM, "claim('Pigs fly', False)", "print('✓ never reached')")
    write(folder / "03_error.ipynb", "raise ValueError('too big\\nand a second line')")
    assert cli.main(["run"]) == 1
    out, err = capsys.readouterr()
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines["01_good"][1:3] == ["3", "2"] and lines["01_good"][-1] == "ok"
    assert lines["02_false"][1:3] == ["3", "0"] and lines["02_false"][-1] == "FAILED"
    assert "  02_false, cell c1: Pigs fly\n" in out
    assert "  03_error, cell c0: ValueError: too big\n" in out
    assert out.endswith("2 of 3 FAILED: 02_false, 03_error\n")
    assert err == ""


def test_run_counts_no_claims_of_an_earlier_run(folder):
    path = write(folder / "01_a.ipynb", "1 / 0", "print('hi')")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="✓ long ago\n")]
    nbformat.write(notebook, path)
    (result,) = runner.run([path], jobs=1, report=lambda _: None)
    assert result.claims == 0 and result.failure == "cell c0: ZeroDivisionError: division by zero"


def test_save_stores_outputs_of_labs_that_ran_and_of_no_others(folder, capsys):
    kernel = {"name": "no-such-kernel", "display_name": "Mine", "language": "python"}
    pieces = "import sys\nfor text in 'a', 'é':\n    print(text, flush=True); print('!', file=sys.stderr, flush=True)"
    good = write(folder / "01_good.ipynb", pieces, "6 * 7", kernelspec=kernel)
    bad = write(folder / "02_bad.ipynb", "print('b')", "assert False")
    before = bad.read_bytes()
    assert cli.main(["run", "1"]) == 0
    assert outputs(good) == ["", ""], "nothing is stored unless asked for"
    assert cli.main(["run", "--save"]) == 1
    assert bad.read_bytes() == before
    assert outputs(good) == ["a\né\n!\n!\n", "42"], "each stream in one piece"
    notebook = nbformat.read(good, as_version=4)
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata.language_info == {"name": "python"}
    assert all(cell.metadata == {} for cell in notebook.cells)
    text = good.read_text("utf-8")
    assert text.endswith("}\n") and "é" in text, "a last newline; letters, not escapes"
    assert cli.main(["run", "01", "--save"]) == 0
    assert good.read_text("utf-8") == text, "a second run changes nothing"


@pytest.mark.parametrize("state", ["MNIST", "no such file"])
def test_stored_outputs_that_are_not_of_mnist_are_pointed_out(folder, monkeypatch, capsys, state):
    monkeypatch.setattr(data, "status", lambda: [("LABKIT_DATA", "somewhere", state)])
    write(folder / "01_good.ipynb", "6 * 7")
    assert cli.main(["run", "--save"]) == 0
    printed = capsys.readouterr().out
    assert ("CAREFUL" in printed) == ("Run without MNIST" in printed) == (state != "MNIST")
    assert cli.main(["run"]) == 0
    printed = capsys.readouterr().out
    assert "CAREFUL" not in printed
    assert ("Run without MNIST" in printed) == (state != "MNIST")


def test_kernels_are_this_python_in_the_labs_folder_whatever_the_user_has_installed(folder, monkeypatch):
    wrong = folder / "share" / "kernels" / "python3"
    wrong.mkdir(parents=True)
    (wrong / "kernel.json").write_text('{"argv": ["no-such-python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder / "share"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    path = write(folder / "01_where.ipynb", "import os, sys; print(sys.executable); print(os.getcwd())")
    (result,) = runner.run([path], jobs=1, save=True, report=lambda _: None)
    assert result.failure is None
    assert outputs(path)[0].splitlines() == [sys.executable, str(folder.resolve())]


@pytest.mark.parametrize("jobs, threads, expected", [(1, None, "None"), (2, None, "1"), (2, 3, "3"), (1, 2, "2")])
def test_each_kernel_gets_one_thread_when_labs_run_side_by_side(folder, monkeypatch, jobs, threads, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    source = "import os; print(os.environ['LABKIT_LIVE'], os.environ.get('OMP_NUM_THREADS'))"
    paths = [write(folder / f"0{number}_a.ipynb", source) for number in range(2)]
    runner.run(paths, jobs, threads, save=True, report=lambda _: None)
    assert outputs(paths[0]) == [f"0 {expected}\n"]


def test_labs_run_side_by_side_and_are_reported_as_they_finish(folder):
    # Each waits for the other to start, which one after the other they never would.
    meet = (
        "import pathlib, time\npathlib.Path('{}').touch()\nstart = time.time()\n"
        "while not pathlib.Path('{}').exists():\n    time.sleep(0.05)\n    assert time.time() < start + 20\n"
    )
    # The slow one also waits until the fast one has been reported.
    first = write(folder / "01_slow.ipynb", meet.format("a", "b") + meet.format("c", "02_fast"))
    second = write(folder / "02_fast.ipynb", meet.format("b", "a"))
    finished = []

    def report(result):
        finished.append(result.name)
        (folder / result.name).touch()

    results = runner.run([first, second], jobs=2, report=report)
    assert finished == ["02_fast", "01_slow"]
    assert [(result.name, result.failure) for result in results] == [("01_slow", None), ("02_fast", None)]


def test_labs_run_hands_its_options_on(folder, monkeypatch, capsys):
    path, called = write(folder / "01_a.ipynb"), []

    def run(paths, jobs, threads, save, report):
        called.append((paths, jobs, threads, save))
        return []

    monkeypatch.setattr(runner, "run", run)
    cli.main(["run", "--jobs", "3", "--threads", "2"])
    cli.main(["run", "--jobs", "1", "--save"])
    assert called[0] == ([path], 3, 2, False)
    assert called[1][1] == 1 and called[1][3] is True


def test_peak_memory_and_seconds_are_measured(folder):
    path = write(folder / "01_big.ipynb", "import time\nx = b'x' * 300_000_000\ntime.sleep(0.6)\ndel x")
    (result,) = runner.run([path], jobs=1, report=lambda _: None)
    assert 340 < result.peak_mb < 700
    assert 0.6 < result.seconds < 60


def test_a_kernel_that_dies_and_a_cell_that_hangs_are_named(folder, monkeypatch):
    dead = write(folder / "01_dead.ipynb", "1", "import os; os._exit(1)")
    stuck = write(folder / "02_stuck.ipynb", "import time; time.sleep(60)")
    broken = folder / "03_broken.ipynb"
    broken.write_text("<<<<<<< HEAD", encoding="utf-8")
    died, unread = (result.failure for result in runner.run([dead, broken], jobs=2, report=lambda _: None))
    assert died.startswith("cell c1: The kernel died")
    assert "no notebook" in unread
    monkeypatch.setattr(runner, "CELL_SECONDS", 2)  # only now: a dead kernel may be noticed later than that
    (stopped,) = runner.run([stuck], jobs=1, report=lambda _: None)
    assert stopped.failure == "cell c0: The cell was stopped after 2 seconds."


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process on Windows")
def test_ctrl_c_stops_every_lab_and_says_so(folder):
    for number in range(3):
        write(folder / f"0{number}_a.ipynb", f"open('{number}', 'w').close()\nimport time; time.sleep(60)")
    code = (
        "import sys; from pathlib import Path; from labkit import cli, runner\n"
        "runner.NOTEBOOKS = Path(sys.argv[1]); sys.exit(cli.main(['run', '--jobs', '2']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not all((folder / str(n)).exists() for n in range(2)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(2)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "\nStopped.\n")
    assert len(out.splitlines()) == 1, "only the heading: no lab is called a failure"


def test_unknown_labs_are_one_sentence(folder, capsys):
    write(folder / "01_a.ipynb")
    write(folder / "06_b.ipynb")
    assert cli.main(["run", "6", "7"]) == 1
    assert capsys.readouterr().err == "There is no lab 07: choose from 01, 06.\n"
    assert cli.main(["open", "99"]) == 1
    assert "no lab 99" in capsys.readouterr().err


def test_labs_are_found_by_number_or_name_in_order(folder):
    one, six = write(folder / "01_a.ipynb"), write(folder / "06_b.ipynb")
    (folder / "notes.ipynb").touch()
    assert runner.find_labs() == [one, six]
    assert runner.find_labs(["06_b", "1"]) == [one, six]
    assert runner.find_labs(["6"]) == [six]


@pytest.mark.parametrize("cores, gigabytes, jobs", [(8, 64, 8), (8, 6.2, 4), (2, 0.3, 1)])
def test_as_many_labs_at_a_time_as_cores_and_memory_allow(monkeypatch, cores, gigabytes, jobs):
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    monkeypatch.setattr(runner, "free_memory_gb", lambda: gigabytes)
    assert runner.default_jobs() == jobs


# ---- labs test ---------------------------------------------------------------------------------------------


@pytest.fixture
def pytest_arguments(monkeypatch):
    """What `labs test` gives to pytest, which is not run."""
    seen = []
    monkeypatch.setattr(pytest, "main", lambda arguments: seen.extend(arguments) or 5)
    return seen


def places(monkeypatch, *states):
    monkeypatch.setattr(data, "status", lambda: [(f"place {n}", f"path {n}", state) for n, state in enumerate(states)])


def test_outputs_are_compared_on_mnist(monkeypatch, pytest_arguments, capsys):
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    places(monkeypatch, "does not exist", "MNIST")
    assert cli.main(["test", "-k", "xor", "tests/test_data.py", "-x"]) == 5, "pytest's exit status is passed on"
    assert "--nbval" in pytest_arguments and "--nbval-lax" not in pytest_arguments
    assert "--nbval-current-env" in pytest_arguments
    assert pytest_arguments[-4:] == ["-k", "xor", "tests/test_data.py", "-x"]
    assert pytest_arguments[pytest_arguments.index("--dist") + 1] == "loadfile"
    assert Path.cwd() == runner.ROOT
    assert "LABKIT_DATA" not in os.environ and capsys.readouterr().out == ""


def test_outputs_are_not_compared_on_the_digits_and_this_is_said(monkeypatch, pytest_arguments, capsys):
    monkeypatch.setenv("LABKIT_DATA", "digits")
    monkeypatch.setattr(data, "fetch", lambda: pytest.fail("digits are wanted on purpose: no download"))
    cli.main(["test"])
    assert "--nbval-lax" in pytest_arguments and "--nbval" not in pytest_arguments
    assert "NOT COMPARED" in capsys.readouterr().out


def test_mnist_is_fetched_once_before_the_labs_need_it(monkeypatch, pytest_arguments, capsys):
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    places(monkeypatch, "does not exist")
    fetched = []
    monkeypatch.setattr(data, "fetch", lambda: fetched.append(1))
    cli.main(["test"])
    assert fetched == [1] and "--nbval" in pytest_arguments
    assert "downloading" in capsys.readouterr().out


def test_without_network_the_labs_are_tested_on_the_digits(monkeypatch, pytest_arguments, capsys):
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    places(monkeypatch, "does not exist")

    def fetch():
        raise LabError("No network here.")

    monkeypatch.setattr(data, "fetch", fetch)
    assert cli.main(["test"]) == 5
    assert "--nbval-lax" in pytest_arguments and os.environ["LABKIT_DATA"] == "digits"
    out = capsys.readouterr().out
    assert "No network here." in out and "NOT COMPARED" in out


@pytest.mark.parametrize("command", ["test", "data"])
def test_a_wrong_labkit_data_is_one_sentence(monkeypatch, pytest_arguments, capsys, command):
    monkeypatch.setenv("LABKIT_DATA", "no/such/folder")
    monkeypatch.setattr(data, "fetch", lambda: pytest.fail("a download would not help"))
    assert cli.main([command]) == 1
    err = capsys.readouterr().err
    assert err.startswith("LABKIT_DATA leads to ") and err.count("\n") == 1
    assert pytest_arguments == []


@pytest.fixture
def nbval(tmp_path, own_environment):
    """Run nbval as `labs test` does on a folder with a copy of labkit; return (exit status, output)."""
    shutil.copytree(runner.ROOT / "labkit", tmp_path / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(runner.ROOT / "conftest.py", tmp_path)
    (tmp_path / "notebooks").mkdir()
    lab = write(tmp_path / "notebooks" / "01_a.ipynb", CLAIM, "claim('Two is more than one', 2 > 1)", "6 * 7")
    runner.run([lab], jobs=1, save=True, report=lambda _: None)

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-current-env", *options]
        done = subprocess.run(
            [*command, "notebooks"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return tmp_path, lab, run


def replace(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_nbval_accepts_stored_outputs_and_leaves_checkpoints_out(nbval):
    folder, _, run = nbval
    copies = folder / "notebooks" / ".ipynb_checkpoints"
    copies.mkdir()
    write(copies / "01_a-checkpoint.ipynb", "1 / 0")
    status, out = run("--nbval")
    assert status == 0 and "3 passed" in out


@pytest.mark.parametrize("options, status", [(["--nbval"], 1), (["--nbval-lax"], 0)])
def test_nbval_finds_a_changed_output_unless_outputs_are_not_compared(nbval, options, status):
    _, lab, run = nbval
    replace(lab, '"42"', '"43"')
    assert run(*options)[0] == status


@pytest.mark.parametrize("option", ["--nbval", "--nbval-lax"])
def test_nbval_finds_a_false_claim(nbval, option):
    _, lab, run = nbval
    replace(lab, "2 > 1)", "2 > 3)")
    status, out = run(option)
    assert status == 1 and "ClaimFailed" in out


def test_nbval_finds_a_broken_labkit_function(nbval):
    folder, _, run = nbval
    replace(folder / "labkit" / "claims.py", "✓", "v")
    assert run("--nbval")[0] == 1


def test_nbval_finds_a_stray_warning(nbval):
    _, lab, run = nbval
    replace(lab, '"6 * 7"', "\"import sys; sys.stderr.write('careful'); 6 * 7\"")
    assert run("--nbval")[0] == 1


# ---- The rest of the command -------------------------------------------------------------------------------


def test_without_arguments_the_index_is_opened(monkeypatch, folder):
    from jupyterlab.labapp import LabApp

    index, lab = write(folder / "00_index.ipynb"), write(folder / "06_b.ipynb")
    seen = []
    monkeypatch.setattr(LabApp, "launch_instance", seen.append)
    root = f"--ServerApp.root_dir={runner.ROOT}"
    assert cli.main([]) == 0
    assert cli.main(["open", "6", "--no-browser"]) == 0
    assert seen == [[str(index), root], [str(lab), root, "--no-browser"]]


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--nonsense"], ["run", "--jobs=0"], ["doctor", "extra"]])
def test_bad_usage_is_exit_status_2_and_no_command(monkeypatch, capsys, arguments):
    called = commands_called(monkeypatch)
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2 and called == []
    assert arguments[-1].partition("=")[0] in capsys.readouterr().err


def test_labkit_without_its_labs_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path / "notebooks")
    assert cli.main(["run"]) == 1
    err = capsys.readouterr().err
    assert "clone the project" in err and err.count("\n") == 1


def test_a_missing_package_is_one_sentence(monkeypatch, capsys):
    def fail(_):
        raise ModuleNotFoundError("No module named 'spam'", name="spam")

    monkeypatch.setitem(cli.COMMANDS, "doctor", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "The package spam is missing from this Python: see `labs doctor`.\n"


def test_relative_labkit_data_is_tried_from_here_then_from_the_project(monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "absolute")
    cases = {"here": str(tmp_path / "here"), "tests": str(runner.ROOT / "tests"), absolute: absolute}
    for given, expected in (cases | {"digits": "digits"}).items():
        os.environ["LABKIT_DATA"] = given
        runner.fix_data_path()
        assert os.environ["LABKIT_DATA"] == expected
    del os.environ["LABKIT_DATA"]
    runner.fix_data_path()
    assert "LABKIT_DATA" not in os.environ


@pytest.mark.skipif(os.name == "nt", reason="there, HOME is not where Python looks")
def test_where_the_system_knows_no_home_kernels_get_a_private_folder(monkeypatch, tmp_path):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "/somewhere")
    runner.fix_home()
    assert os.environ["HOME"] == "/somewhere"
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runner.fix_home()
    home = Path(os.environ["HOME"])
    assert home.parent == tmp_path and home.stat().st_mode & 0o777 == 0o700
    runner.fix_home()  # a second time, it is there
    other = os.getuid() + 1
    home.rename(home.with_name(f"labs-home-{other}"))
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(LabError, match="is not yours"):
        runner.fix_home()


def test_data_shows_the_places_and_fetches_only_what_is_missing(monkeypatch, capsys):
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    fetched = []
    monkeypatch.setattr(data, "fetch", lambda: fetched.append(1) or Path("cache"))
    places(monkeypatch, "does not exist", "MNIST")
    assert cli.main(["data"]) == 0
    assert capsys.readouterr().out == "place 0: path 0 does not exist.\nplace 1: path 1 is MNIST.\n"
    assert fetched == []
    assert cli.main(["data", "--fetch"]) == 0 and fetched == [1]
    places(monkeypatch, "does not exist")
    assert cli.main(["data"]) == 0 and fetched == [1, 1]
    monkeypatch.setenv("LABKIT_DATA", "digits")
    assert cli.main(["data"]) == 0 and fetched == [1, 1]


def test_links_and_bench_get_their_arguments(monkeypatch, capsys, tmp_path):
    from labkit import links

    seen = []
    monkeypatch.setattr(links, "main", seen.append)
    assert cli.main(["links"]) == 0 and cli.main(["links", "--check"]) == 0
    assert seen == [False, True]
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    assert cli.main(["bench"]) == 1
    assert "benchmarks" in capsys.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "run.py").write_text("import sys; sys.exit(len(sys.argv))", encoding="utf-8")
    assert cli.main(["bench", "--fast", "01"]) == 3


def test_the_command_starts_without_loading_anything_heavy():
    code = (
        "import sys; from labkit import cli; cli._parser()\n"
        "print({'numpy', 'tensorflow', 'nbclient', 'pytest', 'psutil', 'jupyterlab'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=runner.ROOT)
    assert run.stdout == "set()\n"
