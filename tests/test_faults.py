"""What the course survives, tried for real: the fast part of benchmarks/faults.py, which needs no rights."""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from labkit import data, runner, study
from labkit.errors import LabError

sys.path.append(str(runner.ROOT / "benchmarks"))
import faults

pytestmark = pytest.mark.slow
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups and no limit of a file's size")
FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, -1))
"""


@contextlib.contextmanager
def full_disk(size):
    """Inside, no file gets longer than so many bytes, which stands in for a full disk."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


# ---- Studies -----------------------------------------------------------------------------------------------


@posix_only
def test_a_disk_that_is_full_on_the_way_is_one_sentence_and_the_study_goes_on_later(tmp_path):
    size = len(faults.undisturbed(faults.QUICK)[1])
    script, path = faults.study_in(tmp_path, faults.QUICK + FULL.format(size=size // 10))
    faults.refuse(faults.start(tmp_path, script, path.parent), f"{path} could not be written (File too large): ")
    assert not path.read_bytes().endswith(b"\n"), "a line is torn"
    faults.study_in(tmp_path, faults.QUICK)
    assert faults.goes_on(tmp_path, script, path, faults.QUICK) >= 1


@posix_only
@pytest.mark.parametrize("share", [0.6, 1], ids=["a torn line", "another order"])
def test_a_disk_too_full_for_putting_a_record_in_order_leaves_it_as_it_was(tmp_path, share):
    size = len(faults.undisturbed(faults.QUICK)[1])
    script, path = faults.study_in(tmp_path, faults.QUICK)
    faults.work(faults.start(tmp_path, script, path.parent))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[::-1])[: int(size * share)])
    before = path.read_bytes()
    faults.study_in(tmp_path, faults.QUICK + FULL.format(size=size // 3))
    faults.refuse(faults.start(tmp_path, script, path.parent), "could not be written")
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


@posix_only
def test_a_worker_that_dies_when_all_is_recorded_keeps_nobody_waiting(tmp_path):
    # It may hold the lock of the queue from which the other one would be told to end.
    script, path = faults.study_in(tmp_path, faults.QUICK)
    runs, record, _ = faults.undisturbed(faults.QUICK)
    hit = 0
    for _ in range(12):  # more often than not, the workers are still there when the last line is
        process = faults.start(tmp_path, script, path.parent)
        faults.until(lambda: path.exists() and path.stat().st_size >= len(record) - 5, process)
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            faults.workers(process)[0].kill()
            hit += 1
        faults.work(process)
        assert faults.runs_of(path) == runs
        path.unlink()
        if hit == 4:
            return
    assert hit, "no worker was killed, so nothing is known"


@posix_only
@pytest.mark.parametrize("n", [0, 1])
def test_workers_end_by_themselves_when_their_parent_is_killed(tmp_path, n):
    # Before they have work, and while they have some. The drill demands that they end.
    faults.kill_recording(tmp_path, n, faults.QUICK, faults.kill_parent)


@posix_only
def test_ctrl_c_ends_a_recording_with_its_workers(tmp_path):
    script, path = faults.study_in(tmp_path, faults.QUICK)
    process = faults.start(tmp_path, script, path.parent)
    assert faults.until(lambda: len(faults.whole_lines(path)) > 2, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    faults.finish(process)
    assert family and psutil.wait_procs(family, timeout=15)[1] == []
    assert len(faults.whole_lines(path)) > 2


def test_a_record_that_must_not_be_written_is_known_before_the_training(tmp_path, monkeypatch):
    functions = (lambda units: None, lambda: None)
    one = study.Study("02.x", *functions, {"units": [4]}, seeds=[1], epochs=1, batch_size=1, where=tmp_path)
    one._tidy()
    opened = Path.open

    def forbidden(path, mode="r", **settings):
        if mode == "a":
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, **settings)

    monkeypatch.setattr(Path, "open", forbidden)
    monkeypatch.setattr(study, "_side_by_side", lambda *_: pytest.fail("it trains what it cannot keep"))
    with pytest.raises(LabError, match=r"02\.x\.jsonl could not be written \(Permission denied\)"):
        one.record()


@pytest.fixture
def jumping(tmp_path):
    """Variables for a process whose clock jumps by hours and years, at every look."""
    (tmp_path / "sitecustomize.py").write_text(faults.CLOCK)
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{runner.ROOT}"}


@posix_only
def test_a_recording_that_is_killed_goes_on_under_a_clock_that_jumps(tmp_path, jumping):
    faults.kill_recording(tmp_path, 5, faults.QUICK, **jumping)
    assert "LokyProcess" in (tmp_path / "clocks").read_text()


# ---- MNIST -------------------------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_download_that_fills_the_disk_is_used_and_kept_later(tmp_path, size):
    with faults.mirror(faults.sender(faults.small()[1])) as url, full_disk(size):
        loaded, printed = faults.load_here(tmp_path, url)
    assert faults.is_small(loaded)
    assert printed.count("\n") == 1 and "it could not be kept" in printed and "File too large" in printed
    assert list((tmp_path / "cache").iterdir()) == []
    faults.usable_next_time(tmp_path)


@pytest.mark.parametrize("n", range(12))
def test_a_mirror_that_fails_at_any_byte_leaves_nothing_bad(tmp_path, n):
    faults.broken_mirror(tmp_path, n)


@posix_only
@pytest.mark.parametrize("n", range(4))
def test_a_download_that_is_killed_at_any_byte_leaves_nothing_bad(tmp_path, n):
    faults.killed_download(tmp_path, n)


def test_a_download_works_under_a_clock_that_jumps(tmp_path, jumping):
    others = [tmp_path / "cache" / f"mnist-{n}.part" for n in range(7)]  # of other processes, which are still writing
    others[0].parent.mkdir()
    for path in others:
        path.touch()
    with faults.mirror(faults.sender(faults.small()[1])) as url:
        assert faults.work(faults.loader(tmp_path, url, **jumping)) == "MNIST\n"
    assert all(path.exists() for path in others) and (tmp_path / "clocks").exists()
    faults.usable_next_time(tmp_path)


def test_a_partial_file_from_a_clock_that_was_ahead_goes_too(tmp_path):
    left, new = tmp_path / "cache" / "mnist-a.part", tmp_path / "cache" / "mnist-b.part"
    left.parent.mkdir()
    for path, hours in ((left, 30 * 365 * 24), (new, 0.5)):
        path.touch()
        os.utime(path, (time.time() + 3600 * hours,) * 2)
    faults.usable_next_time(tmp_path)
    assert sorted(path.name for path in left.parent.iterdir()) == ["mnist-b.part", "mnist.npz"]


def test_without_a_home_mnist_is_kept_with_the_temporary_files(tmp_path, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for name in ("LABKIT_DATA", "LABKIT_CACHE", "KERAS_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert data.cache_folder().is_relative_to(tmp_path)
    assert [path.startswith(str(tmp_path)) for _, path, _ in data.status()] == [True, True]


# ---- Labs, and a path of any letters -----------------------------------------------------------------------


def test_the_course_works_at_a_path_with_spaces_and_letters_of_other_alphabets(tmp_path):
    odd = tmp_path / "Übung 1 – neural labs ñ 日本"
    odd.mkdir()
    copy = faults.course(odd, [])
    faults.notebook(copy / "notebooks" / "01_odd.ipynb", "from labkit import data; print(data.__file__)")
    faults.work(faults.labs(copy, "run", "--save"), "All 1 ok.")
    (saved,) = json.loads((copy / "notebooks" / "01_odd.ipynb").read_text("utf-8"))["cells"][0]["outputs"]
    assert "".join(saved["text"]) == f"{copy / 'labkit' / 'data.py'}\n"
    script, path = faults.study_in(odd, faults.QUICK)
    assert faults.goes_on(odd, script, path, faults.QUICK, PYTHONPATH=str(copy)) == 0
    faults.usable_next_time(odd)


@posix_only
def test_a_lab_that_fills_the_disk_keeps_its_notebook_and_is_saved_later(tmp_path):
    path = tmp_path / "01_long.ipynb"
    faults.notebook(path, *["print('x' * 50_000)"] * 4)
    before = path.read_bytes()
    with full_disk(100_000):
        (full,) = runner.run([path], jobs=1, save=True, report=str)
    assert "could not be saved (File too large)" in full.failure and "\n" not in full.failure
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
    (later,) = runner.run([path], jobs=1, save=True, report=str)
    assert later.failure is None and len(path.read_bytes()) > 200_000


# ---- The drill itself: it notices what is lost -------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    script, path = faults.study_in(folder, faults.QUICK)
    faults.work(faults.start(folder, script, path.parent))
    return folder, script, path


@pytest.mark.parametrize("change", ["a digit", "a line", "a file beside it"])
def test_the_drill_notices_a_record_that_is_not_as_it_should_be(recorded, change):
    folder, script, path = recorded
    before = path.read_bytes()
    if change == "a digit":
        path.write_bytes(before.replace(b'"seed": 1', b'"seed": 7', 1))
    elif change == "a line":
        path.write_bytes(before + before.splitlines(keepends=True)[0])
    else:
        (path.parent / "other").touch()
    with pytest.raises(faults.Lost):
        faults.goes_on(folder, script, path, faults.QUICK)
    (path.parent / "other").unlink(missing_ok=True)
    path.write_bytes(before)


def test_the_drill_notices_a_spoilt_cache(tmp_path):
    spoilt = tmp_path / "cache" / "mnist.npz"
    spoilt.parent.mkdir()
    spoilt.write_bytes(faults.small()[1][:-1])
    with pytest.raises(faults.Lost, match=r"spoilt mnist\.npz"):
        faults.usable_next_time(tmp_path)


def test_the_drill_counts_only_what_survives(capsys):
    def trial(folder, n):
        assert folder.is_dir()
        faults.demand(n != 1, "gone")
        return n / 2

    row = faults.carry_out(faults.Drill("a fault", 4, "took {most} s", trial), 4)
    assert row == {"fault": "a fault", "tried": 4, "survived": 3, "how": "took 1.5 s"}
    assert capsys.readouterr().err == "  a fault, trial 1: Lost: gone\n"


@posix_only
def test_the_drill_does_not_wait_for_ever_and_leaves_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "LIMIT", 0.5)
    process = faults.start(tmp_path, "-c", "import time; time.sleep(60)")
    with pytest.raises(faults.Lost, match="hangs"):
        faults.finish(process)
    assert process.returncode == -signal.SIGKILL


@posix_only
def test_the_drill_notices_a_child_that_outlives_its_parent(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "ORPHAN_SECONDS", 0.3)
    child = f"{sys.executable!r}, '-c', 'import time; time.sleep(60)'"
    process = faults.start(tmp_path, "-c", f"import subprocess; subprocess.run([{child}])")
    assert faults.until(lambda: psutil.Process(process.pid).children(), process)
    with pytest.raises(faults.Lost, match="1 of the 1 processes that it started live on"):
        faults.kill_parent(process)


def test_the_drill_does_not_wait_for_a_process_that_has_ended(tmp_path):
    process = faults.start(tmp_path, "-c", "")
    assert not faults.until(lambda: False, process)
    assert faults.until(lambda: True, process)
    faults.finish(process)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="only Linux keeps semaphores in a folder")
def test_the_drill_clears_away_after_one_process_only():
    pid = 2**22 + os.getpid()  # no process has so high a number
    mine, other = (Path(f"/dev/shm/sem.loky-{number}-x") for number in (pid, 10 * pid))
    folder = Path(f"/dev/shm/joblib_memmapping_folder_{pid}_x")
    folder.mkdir()
    for path in (mine, other, folder / "file"):
        path.touch()
    try:
        faults.sweep(pid)
        assert [path.exists() for path in (mine, folder, other)] == [False, False, True]
    finally:
        other.unlink()


@posix_only
def test_a_namespace_that_breaks_down_does_not_end_the_drill(monkeypatch, capsys, tmp_path):
    broken = tmp_path / "unshare"
    broken.write_text("#!/bin/sh\n[ $3 = sh ] || exit 3\n")  # the probe goes well
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    row = faults.carry_out_apart(faults.Drill("a fault", 4, "took {most} s", None, faults.NET), 4)
    assert row == {"fault": "a fault", "tried": 4, "survived": 0, "how": "took ? s"}
    assert "a fault: no result, exit status 3" in capsys.readouterr().err
