"""How much this machine has to give: free memory under each kind of limit, and how many tasks fit."""

import os
from types import SimpleNamespace

import psutil
import pytest

from labkit import _machine

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no control groups")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


@pytest.fixture
def left(tmp_path):
    """A function that lays out groups, {name: (limit, used, cached)}, and returns what limits on a process leave."""

    def find(own, groups):
        (tmp_path / "own").write_text(own, encoding="utf-8")
        for group, values in groups.items():
            folder = tmp_path / "groups" / group
            folder.mkdir(parents=True, exist_ok=True)
            limit, used, cached = V1 if group.startswith("memory") else V2
            (folder / limit).write_text(f"{values[0]}\n", encoding="utf-8")
            (folder / used).write_text(f"{values[1]}\n", encoding="utf-8")
            (folder / "memory.stat").write_text(f"anon 1\n{cached} {values[2]}\n", encoding="utf-8")
        return sorted(_machine._left_in_groups(str(tmp_path / "groups"), tmp_path / "own"))

    return find


@pytest.mark.parametrize(
    ("own", "groups", "expected"),
    [
        ("0::/", {".": (30, 20, 5)}, [15]),  # a container
        ("0::/", {".": ("max", 20, 5)}, []),
        ("0::/system.slice/jupyter-anna.service", {"system.slice/jupyter-anna.service": (30, 20, 0)}, [10]),  # systemd
        ("0::/a/b/c", {"a/b/c": ("max", 9, 0), "a/b": (30, 20, 0), "a": (25, 22, 0)}, [3, 10]),  # limits above
        ("0::/../../other", {".": (30, 20, 0)}, [10]),  # a process that was moved into a container
        ("5:cpu,memory:/slurm/job", {"memory/slurm/job": (30, 20, 1), "memory": (99, 20, 0)}, [11, 79]),  # version 1
        ("5:memory:/docker/123", {"memory": (30, 20, 5)}, [15]),  # its container sees its own group as the root
        ("5:memory:/a\n0::/a", {"memory/a": (30, 20, 0), "a": ("max", 0, 0)}, [10]),  # both versions side by side
        ("4:cpu:/a\nno such line", {"memory": (30, 20, 0)}, []),
    ],
)
def test_what_each_limit_leaves(left, own, groups, expected):
    assert left(own, groups) == expected


def test_a_soft_limit_counts_and_missing_statistics_do_not_hide_a_limit(left, tmp_path):
    left("0::/", {".": ("max", 20, 5)})
    (tmp_path / "groups" / "memory.high").write_text("24", encoding="utf-8")
    (tmp_path / "groups" / "memory.stat").unlink()
    assert left("0::/", {}) == [4]


@pytest.mark.parametrize(("cores", "free", "jobs"), [(8, 64e9, 8), (8, 6.2e9, 4), (2, 0.3e9, 1), (2, -1, 1)])
def test_as_many_tasks_at_a_time_as_cores_and_memory_allow(monkeypatch, cores, free, jobs):
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(_machine, "_left_in_groups", lambda: [70e9])
    assert _machine.default_jobs() == jobs
    assert _machine.free_memory_gb() == max(free, 0) / 1e9


def test_free_memory_is_more_than_nothing_and_less_than_there_is():
    assert 0 < _machine.free_memory_gb() <= psutil.virtual_memory().total / 1e9


def test_a_headless_kernel_draws_nothing_live_and_keeps_to_its_threads():
    assert _machine.environment()["LABKIT_LIVE"] == "0" and "OMP_NUM_THREADS" not in _machine.environment()
    assert _machine.environment(3)["OMP_NUM_THREADS"] == _machine.environment(3)["TF_NUM_INTRAOP_THREADS"] == "3"
