"""Each check of `labs doctor` notices what it is there for, and says how to mend it."""

import importlib.metadata
import json
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from labkit.doctor import BAD, GOOD, WARN

from labkit import data, doctor, runner


@pytest.mark.parametrize("marks, status", [([GOOD, WARN], 0), ([GOOD, BAD, GOOD], 1)])
def test_one_line_each_and_exit_status_1_only_where_something_is_broken(monkeypatch, capsys, marks, status):
    checks = {f"check {number}": lambda mark=mark: (mark, "as it is") for number, mark in enumerate(marks)}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert doctor.main() == status
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines] == marks
    assert len({line.index("as it is") for line in lines}) == 1, "aligned"


def test_a_package_that_a_check_needs_may_be_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "packaging.specifiers", None)
    monkeypatch.setattr(doctor, "CHECKS", {"Python": doctor.check_python})
    assert doctor.main() == 1
    out = capsys.readouterr().out
    assert out.startswith("✗ Python") and "pip install -r" in out and out.count("\n") == 1


def test_python(monkeypatch):
    assert doctor.check_python()[0] == GOOD
    for version in ((3, 10, 9), (3, 14, 0)):
        monkeypatch.setattr(sys, "version_info", version)
        mark, text = doctor.check_python()
        assert mark == BAD and "install Python 3.12" in text


def test_the_lock_is_read_for_this_system(tmp_path):
    lock = tmp_path / "requirements.txt"
    lock.write_text(
        "# a comment\nspam==1.0\n\nnever==2 ; sys_platform == 'amiga'\neggs==3.1 ; python_version >= '3'\n",
        encoding="utf-8",
    )
    assert doctor.locked(lock) == {"spam": "1.0", "eggs": "3.1"}


def test_packages(monkeypatch):
    installed = doctor.locked()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed[name])
    assert doctor.check_packages()[0] == GOOD
    installed["numpy"] = "0.1"
    mark, text = doctor.check_packages()
    assert mark == BAD and "numpy 0.1 (lock: " in text and "pip install -r" in text and "…" not in text
    for name in ("keras", "scipy", "pandas"):
        installed[name] = "0.1"
    assert "…" in doctor.check_packages()[1], "only the first few are named"


def test_a_missing_package(monkeypatch):
    monkeypatch.setattr(doctor, "locked", lambda: {"no-such-package": "1.0"})
    mark, text = doctor.check_packages()
    assert mark == BAD and "no-such-package missing (lock: 1.0)" in text


def test_labkit(monkeypatch, tmp_path):
    def installed(*origins):
        found = [SimpleNamespace(read_text=lambda _, origin=origin: origin) for origin in origins]
        monkeypatch.setattr(importlib.metadata, "distributions", lambda name: found)
        return doctor.check_labkit()

    def origin(folder, editable):
        return json.dumps({"url": folder.as_uri(), "dir_info": {"editable": editable}})

    assert installed(None, origin(runner.ROOT, True))[0] == GOOD
    assert installed(origin(runner.ROOT, False))[0] == BAD, "a copy would not see changes"
    mark, text = installed(origin(tmp_path / "é là", True))
    assert mark == BAD and "é là" in text and "pip install --no-deps -e" in text
    assert installed(None)[0] == installed()[0] == BAD


def test_memory_and_disk(monkeypatch):
    for free, mark in ((1.9, WARN), (2.1, GOOD)):
        monkeypatch.setattr(runner, "free_memory_gb", lambda free=free: free)
        assert doctor.check_memory()[0] == mark
    for free, mark in ((0.9e9, WARN), (1.1e9, GOOD)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert doctor.check_disk()[0] == mark


def test_cores(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    mark, text = doctor.check_cores()
    assert mark == GOOD and text.startswith("6")


def test_data(monkeypatch):
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    found = [("the cache", "/somewhere", "does not exist")]
    monkeypatch.setattr(data, "status", lambda: found)
    mark, text = doctor.check_data()
    assert mark == WARN and "labs data --fetch" in text
    found.append(("Keras's cache", "/elsewhere", "MNIST"))
    assert doctor.check_data() == (GOOD, "MNIST from Keras's cache, /elsewhere")
    monkeypatch.setenv("LABKIT_DATA", "digits")
    assert doctor.check_data()[0] == WARN
    monkeypatch.setenv("LABKIT_DATA", "/somewhere")
    del found[1]
    mark, text = doctor.check_data()
    assert mark == BAD and "/somewhere, which does not exist" in text


def test_kernel(monkeypatch, tmp_path):
    from jupyter_client import kernelspec

    def kernel(command):
        found = SimpleNamespace(argv=[command])
        monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", lambda *_: found)
        return doctor.check_kernel()

    assert kernel(sys.executable)[0] == GOOD
    assert kernel("python")[0] == GOOD, "JupyterLab puts its own Python in its place"
    mark, text = kernel(str(tmp_path / "python"))
    assert mark == BAD and "ipykernel install" in text

    def missing(*_):
        raise kernelspec.NoSuchKernel("python3")

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", missing)
    assert doctor.check_kernel()[0] == BAD


def test_tensorflow(monkeypatch):
    done = SimpleNamespace(returncode=0, stdout="2.21.0\n", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert doctor.check_tensorflow() == (GOOD, "2.21.0 loads")
    done.returncode, done.stderr = 1, "Traceback\nImportError: DLL load failed\n"
    mark, text = doctor.check_tensorflow()
    assert mark == BAD and "ImportError: DLL load failed" in text and "Traceback" not in text
    done.returncode, done.stderr = -4, ""
    assert "exit status -4" in doctor.check_tensorflow()[1], "killed by the processor, for want of an instruction"


def test_free_memory_in_a_container_is_what_its_limit_leaves(tmp_path, monkeypatch):
    for name, text in (("max", "3000000000"), ("current", "2000000000"), ("stat", "anon 1\ninactive_file 500000000")):
        (tmp_path / f"memory.{name}").write_text(text, encoding="utf-8")
    monkeypatch.setattr(runner, "Path", lambda *_: tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8e9))
    assert runner.free_memory_gb() == 1.5
    (tmp_path / "memory.max").write_text("max", encoding="utf-8")
    assert runner.free_memory_gb() == 8


def test_free_memory_is_more_than_nothing_and_less_than_there_is():
    assert 0 < runner.free_memory_gb() <= psutil.virtual_memory().total / 1e9
