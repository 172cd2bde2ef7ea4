"""Each check of `labs doctor` notices what it is there for, on the real thing where that can be had, and has a mend."""

import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from types import SimpleNamespace
from unittest.mock import Mock

import psutil
import pytest

from labkit import _machine, data, errors
from labtools import doctor, project
from labtools.doctor import BAD, GOOD, WARN

posix_only = pytest.mark.skipif(os.name == "nt", reason="there, virtual environments, signals and libraries differ")


def run(*checks, encoding="utf-8", **changes):
    """The lines of `labs doctor` with these checks only, in a process with these changes of its environment."""
    chosen = f"doctor.CHECKS = {{name: doctor.CHECKS[name] for name in {checks}}}"
    code = f"from labtools import cli, doctor; {chosen}; raise SystemExit(cli.main(['doctor']))"
    changes |= {"PYTHONPATH": os.pathsep.join([changes.get("PYTHONPATH", ""), str(project.ROOT)])}
    changes |= {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | changes, check=False)
    lines = done.stdout.decode(encoding).splitlines()
    assert done.stderr == b"" and done.returncode == any(" wrong: " in line for line in lines)
    return lines


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", "✓!✗"), ("cp1252", "+!x"), ("ascii", "+!x"), (None, "✓!✗")])
def test_each_line_says_in_a_word_what_its_sign_says_and_warnings_do_not_count(monkeypatch, encoding, signs):
    words = {GOOD: f"{signs[0]} ok:", WARN: f"{signs[1]} warning:", BAD: f"{signs[2]} wrong:"}
    for marks in ([GOOD, WARN], [GOOD, BAD, WARN]):
        out = io.StringIO() if encoding is None else io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(doctor, "CHECKS", {f"c{n}": lambda mark=mark: (mark, "so") for n, mark in enumerate(marks)})
        assert doctor.main() == (BAD in marks)
        out.seek(0)
        assert [" ".join(line.split()[::2]) for line in out] == [words[mark] for mark in marks]


def test_a_report_in_an_old_encoding_can_be_read(tmp_path):
    (line,) = run("data", encoding="cp1252", LABKIT_DATA=str(tmp_path / "Ω"))
    assert line.startswith("x data        wrong: LABKIT_DATA leads to ") and "\\u03a9, which does not exist" in line


@pytest.mark.parametrize(("error", "mend"), [
    (ModuleNotFoundError("No module named 'spam'", name="spam"), "the package spam is missing: run "),
    (ImportError("DLL load failed while importing _ssl", name="_ssl"), "this Python lacks its own module _ssl: "),
    (AttributeError("numpy has no attribute 'bool'\nand"), "(AttributeError: numpy has no attribute 'bool'): run "),
    (OSError(2, "No such file", "requirements.txt"), "download the course again"),
    (errors.LabError("06_a.ipynb is no notebook."), "wrong: 06_a.ipynb is no notebook.\n"),
])  # fmt: skip
def test_whatever_stops_a_check_is_wrong_and_has_a_mend(monkeypatch, capsys, error, mend):
    monkeypatch.setattr(doctor, "CHECKS", {"it": Mock(side_effect=error)})
    assert doctor.main() == 1
    assert re.fullmatch(f"✗ it .*{re.escape(mend)}.*\n?", capsys.readouterr().out)


@posix_only
def test_a_package_that_has_lost_a_library_is_found_and_the_other_checks_go_on(tmp_path):
    shutil.copytree(os.path.dirname(psutil.__file__), tmp_path / "psutil", ignore=shutil.ignore_patterns("*.so"))
    memory, labs, disk = run("memory", "labs", "disk", PYTHONPATH=str(tmp_path))
    assert "a package is broken (ImportError: " in memory and "pip install --no-user --force-reinstall -r " in memory
    assert f"wrong: {tmp_path / 'psutil'} hides a package of that name" in labs and " ok: " in disk


def test_python(monkeypatch):
    assert doctor.check_python()[0] == GOOD
    for version in ((3, 10, 9), (3, 14, 0)):
        monkeypatch.setattr(sys, "version_info", version)
        assert doctor.check_python()[0] == BAD and "install Python 3.12" in doctor.check_python()[1]
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(ModuleNotFoundError, match="lzma"):
        doctor.check_python()


def test_packages(monkeypatch, tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text("# a\na==1.0\n\nc==2 ; sys_platform == 'amiga'\nb==3.1 ; python_version >= '3'\n", encoding="utf-8")
    assert doctor.locked(lock) == {"a": "1.0", "b": "3.1"}
    for wanted, mark, text in (
        ({"pytest": pytest.__version__}, GOOD, "all 1 as locked"),
        ({"pytest": "0.1"}, BAD, f"1 of 1 not as locked: pytest {pytest.__version__} (lock: 0.1); run "),
        (dict.fromkeys(("no-a", "no-b", "no-c", "no-d"), "1"), BAD, "no-c missing (lock: 1) and more; run "),
    ):
        monkeypatch.setattr(doctor, "locked", lambda wanted=wanted: wanted)
        assert doctor.check_packages()[0] == mark and text in doctor.check_packages()[1]


def test_labkit(monkeypatch, tmp_path):
    def installed(*origins):
        found = [SimpleNamespace(read_text=lambda _, origin=origin: origin) for origin in origins]
        monkeypatch.setattr(importlib.metadata, "distributions", lambda name: found)
        return doctor.check_labkit()

    ours, copy = (json.dumps({"url": project.ROOT.as_uri(), "dir_info": {"editable": e}}) for e in (True, False))
    assert installed(None, ours)[0] == GOOD and installed(copy)[0] == BAD, "a copy would not see changes"
    mark, text = installed(ours.replace(project.ROOT.as_uri(), (tmp_path / "é là").as_uri()))
    assert mark == BAD and "é là" in text and "pip install --no-user --no-deps -e" in text
    assert installed(None)[0] == installed()[0] == BAD


@posix_only
def test_kernel(monkeypatch, tmp_path):
    venv.create(tmp_path / "other")
    (tmp_path / "link").symlink_to(sys.prefix)
    spec = tmp_path / "data" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    for place in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(place, str(tmp_path / "data"))
        for python, mark in (("other/bin/python", WARN), ("nowhere/python", WARN), ("link/bin/python", GOOD)):
            argv = [str(tmp_path / python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            spec.write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}), encoding="utf-8")
            advice = f"{argv[0]}, unless labs.py starts JupyterLab: move the folder {spec.parent}" * (mark == WARN)
            assert doctor.check_kernel()[0] == mark and advice in doctor.check_kernel()[1], (place, python)
        monkeypatch.delenv(place)
        assert doctor.check_kernel()[0] == GOOD, "with the folder out of the way"
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    spec.write_text(spec.read_text("utf-8").replace("link/", "other/"), encoding="utf-8")
    assert doctor.check_kernel()[0] == BAD and "-m ipykernel install --sys-prefix" in doctor.check_kernel()[1]


def test_labs(monkeypatch, tmp_path):
    assert doctor.check_labs()[0] == GOOD
    monkeypatch.setattr(project, "NOTEBOOKS", tmp_path)
    for name in ("01_a.ipynb", "test.py", "keras.txt", "matplotlib/a.txt", "numpy.py", "random/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(errors.LabError, match=r"01_a.ipynb is no notebook"):
        doctor.check_labs()
    monkeypatch.setattr(project, "read_notebook", lambda path: None)
    mark, text = doctor.check_labs()
    assert mark == BAD and text.startswith(f"{tmp_path / 'numpy.py'}, {tmp_path / 'random'} hides a package")


@posix_only
@pytest.mark.parametrize(("last", "said"), [
    ("__version__ = '9'", "ok: 9 loads"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "too old for it (no AVX): use Binder or Colab"),
    ("import os; os.write(2, b\"but these aren't available on your machine.\"); os.abort()", "too old for it (no AVX)"),
    ("import os; os._exit(9)", "does not load (exit status 9): run "),
    ("raise ImportError('libstdc++.so.6: no GLIBCXX')", "(ImportError: libstdc++.so.6: no GLIBCXX): run "),
    ("raise ValueError('Invalid `epsilon` configuration. Expected a float.')", "correct or delete the file keras.json"),
])  # fmt: skip
def test_tensorflow(tmp_path, last, said):
    (tmp_path / "keras.py").touch()
    (tmp_path / "tensorflow.py").write_text(last, encoding="utf-8")
    (line,) = run("TensorFlow", PYTHONPATH=str(tmp_path))
    assert said in line


def test_memory_and_disk(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    for memory, disk, mark in ((1.9, 0.9e9, WARN), (9.1, 1.1e9, GOOD)):
        monkeypatch.setattr(_machine, "free_memory_gb", lambda memory=memory: memory)
        monkeypatch.setattr("shutil.disk_usage", lambda _, disk=disk: SimpleNamespace(free=disk))
        assert doctor.check_memory()[0] == doctor.check_disk()[0] == mark
    assert doctor.check_memory()[1] == "9.1 GB free and 6 cores, so `labs run` does 6 at a time"


def test_data(monkeypatch):
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    found = [("the cache", "/somewhere", "does not exist"), ("Keras's cache", "/elsewhere", "MNIST")]
    monkeypatch.setattr(data, "status", lambda: found)
    assert doctor.check_data() == (GOOD, "MNIST from Keras's cache, /elsewhere")
    found.pop()
    assert doctor.check_data()[0] == WARN and "labs data --fetch" in doctor.check_data()[1]
    monkeypatch.setenv("LABKIT_DATA", "/somewhere")
    assert doctor.check_data()[0] == BAD and "/somewhere, which does not exist: correct it" in doctor.check_data()[1]
    monkeypatch.setenv("LABKIT_DATA", "digits")
    assert doctor.check_data()[0] == WARN
