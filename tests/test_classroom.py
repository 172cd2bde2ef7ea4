"""The model that says how many students a machine holds, against cases worked by hand; the recipe's texts."""

import re
import sys
import types

import pytest

from labkit import links, runner
from labkit.errors import LabError

sys.path.append(str(links.ROOT / "benchmarks"))  # where classroom.py finds record.py
import classroom

FOLDER = links.ROOT / "classroom"


def row(what="lab", name="01_a", kernels=1, **sizes):
    costs = {"wall_s": 10.0, "wall_max_s": 10.0, "cpu_s": 10.0, "own_mb": 900, "shared_mb": 400, "pss_mb": 1300}
    costs = costs | {"rss_mb": 1300, "cores": 2} | sizes
    return {"what": what, "name": name, "kernels": kernels} | costs


SERVER = row("server", "jupyter lab", own_mb=80 - classroom.HUB_MB, shared_mb=20, rss_mb=100)
ROWS = [SERVER, row(cpu_s=60.0, wall_s=50.0), row(name="02_b", own_mb=500, rss_mb=900)]
MINUTES = {"01_a": 50, "02_b": 50}


def test_memory_counts_libraries_once():
    assert classroom.memory_mb(1, row()) == 1300
    assert classroom.memory_mb(3, row()) == 400 + 3 * 900
    assert classroom.memory_mb(3, row(), SERVER) == 400 + 20 + 3 * (900 + 80)


def test_memory_bounds_the_students():
    # 16,000 MB, less 1,500 for the system and 420 shared, leave 14,080: 14 times 980, and 360 over.
    assert classroom.students(16, 100, ROWS, MINUTES, system_gb=1.5)["by_memory"] == 14
    assert classroom.students(16.6, 100, ROWS, MINUTES, system_gb=1.5)["by_memory"] == 14
    assert classroom.students(16.62, 100, ROWS, MINUTES, system_gb=1.5)["by_memory"] == 15
    assert classroom.students(1, 100, ROWS, MINUTES)["holds"] == 0


def test_computing_time_bounds_the_students():
    # 60 s of computing in 50 minutes keep 0.02 cores busy; half of two cores is 50 times that.
    found = classroom.students(1000, 2, ROWS, MINUTES, busy=0.5)
    assert (found["by_time"], found["holds"]) == (50, 50)
    assert classroom.students(1000, 4, ROWS, MINUTES, busy=0.5)["by_time"] == 100
    # A lab that computes less, but in fewer minutes, can be the more demanding one: 10 s in 5 minutes, 0.033 cores.
    assert classroom.students(1000, 2, ROWS, MINUTES | {"02_b": 5}, busy=0.5)["by_time"] == 30


def test_the_smaller_bound_counts():
    assert classroom.students(16, 2, ROWS, MINUTES)["holds"] == 14
    assert classroom.students(1000, 2, ROWS, MINUTES)["holds"] == 50


def test_the_wait_of_those_that_it_holds():
    # 14 kernels of 60 s on 2 cores, all at once: 420 s.
    found = classroom.students(16, 2, ROWS, MINUTES, system_gb=1.5, window_minutes=0)
    assert found["wait_minutes"] == pytest.approx(7)
    # Over a minute, they wait as `waits` says, less than all at once, and not as over a second.
    found = classroom.students(16, 2, ROWS, MINUTES, system_gb=1.5, window_minutes=1)
    assert found["wait_minutes"] == pytest.approx(max(classroom.waits(14, 2, ROWS[1], 60)) / 60)
    assert found["wait_minutes"] < 6.9


def test_kernels_side_by_side_are_for_the_check_only():
    together = row(kernels=4, own_mb=2000, cpu_s=500.0)
    assert classroom.students(16, 2, [*ROWS, together], MINUTES) == classroom.students(16, 2, ROWS, MINUTES)


@pytest.mark.parametrize(
    ("count", "cores", "window", "expected"),
    [
        (2, 2, 0, [10, 10]),  # a core each
        (2, 8, 0, [10, 10]),  # no kernel is faster than alone
        (3, 1, 0, [30, 30, 30]),  # a third of the core each
        (8, 2, 0, [40] * 8),
        (2, 1, 10, [15, 15]),  # 5 s alone, 10 s shared; the second: 10 s shared, 5 s alone
        (2, 1, 40, [10, 10]),  # the first is ready before the second begins
        (0, 2, 0, []),
    ],
)
def test_waits_worked_by_hand(count, cores, window, expected):
    assert classroom.waits(count, cores, row(), window) == pytest.approx(expected)


def test_a_kernel_that_waits_for_itself_is_not_sped_up():
    # 10 s of computing within 20 s: two of them fit on one core without harm, four take 40 s.
    half = row(cpu_s=10.0, wall_s=20.0)
    assert classroom.waits(2, 1, half) == pytest.approx([20, 20])
    assert classroom.waits(4, 1, half) == pytest.approx([40] * 4)


def test_unmeasured_is_one_sentence():
    with pytest.raises(LabError, match="labs bench classroom"):
        classroom.students(16, 2, [SERVER], MINUTES)


def kept(monkeypatch, rows):
    versions = {"python": "3.12.1", "tensorflow-cpu": "2.20.0", "keras": "3.12.0"}
    found = {"machine": "a machine", "versions": versions, "date": "2026-01-02", "rows": rows, "code": {}}
    monkeypatch.setattr(classroom.record, "read", lambda part: found if part == "classroom" else None)


def test_the_tables_say_what_the_model_says(monkeypatch):
    paths = [(types.SimpleNamespace(stem=name), name, minutes) for name, minutes in MINUTES.items()]
    monkeypatch.setattr(links, "labs", lambda: paths)
    kept(monkeypatch, [*ROWS, row(kernels=4, cpu_s=60.0, wall_max_s=125.0, pss_mb=3900)])
    text = classroom.markdown()
    # 8 GB: (8,000 - 1,500 - 420) / 980 = 6.2. The wait of six on two cores, 360 s of computing within 5 minutes.
    assert "| 2 | 8 GB | 6 | 50 | **6** |" in text
    assert "A class of 30 needs 32 GB." in text  # 1.5 + 0.42 + 30 * 0.98 = 31.32
    assert "takes up to 1.4 GB" in text
    assert "| 01_a | 50 | 1300 | 900 | 60.0 | 50.0 |" in text
    assert "| 4 | 01_a | 4000 | 3900 | 120 | 125 |" in text
    assert "a machine, with python 3.12.1, tensorflow 2.20.0, keras 3.12.0, on 2026-01-02" in text


def test_what_was_never_measured_is_said(monkeypatch):
    monkeypatch.setattr(classroom.record, "read", lambda part: None)
    assert "Not measured yet" in classroom.markdown()


def test_the_readme_is_up_to_date():
    assert classroom.README.read_text("utf-8") == classroom.readme(), "`labs links` brings it up to date"


def test_the_memory_limit_holds_two_labs():
    """A student may forget to close the last lab, as the page says."""
    kept = classroom.record.read("classroom")
    if kept is None:
        pytest.skip("the classroom has not been measured")
    limits = re.findall(r"limits\.memory (\d+)G|mem_limit = \"(\d+)G\"", classroom.README.read_text("utf-8"))
    assert len(limits) == 2
    heaviest = max(row["own_mb"] for row in kept["rows"] if row["what"] == "lab") / 1000
    assert all(int("".join(limit)) > classroom.peak_gb(kept["rows"]) + heaviest for limit in limits)


def test_the_readme_follows_the_address(monkeypatch):
    old = links.repository().removeprefix("https://github.com/")
    monkeypatch.setattr(links, "repository", lambda: "https://github.com/someone/elsewhere")
    text = classroom.readme()
    assert "git clone https://github.com/someone/elsewhere " in text
    assert old not in text


def test_the_link_opens_the_index_in_the_folder_that_it_makes(monkeypatch):
    monkeypatch.setattr(links, "repository", lambda: "https://github.com/someone/elsewhere")
    address = "https://hub.org/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fsomeone%2Felsewhere"
    expected = address + "&urlpath=lab%2Ftree%2Felsewhere%2Fnotebooks%2F00_index.ipynb"
    assert classroom.nbgitpuller("https://hub.org/") == expected
    assert (links.ROOT / "notebooks" / "00_index.ipynb").exists()


def test_lost_comments_are_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("nothing", encoding="utf-8")
    monkeypatch.setattr(classroom, "README", tmp_path / "README.md")
    with pytest.raises(LabError, match="has lost the comments `students`"):
        classroom.readme()


def test_the_hub_configuration_loads_and_reaches_the_kernels():
    from traitlets.config import Config

    c = Config()
    loaded = []
    (code,) = re.findall(r"```python\n(.*?)```", classroom.README.read_text("utf-8"), re.DOTALL)
    exec(code, {"c": c, "load_subconfig": loaded.append})
    exec((FOLDER / "jupyterhub_config.py").read_text("utf-8"), {"c": c})
    assert loaded == ["/srv/nn-labs/classroom/jupyterhub_config.py"]
    environment = c.Spawner.environment.to_dict()["update"]
    threads = {name for name in environment if name.endswith("THREADS")}
    assert threads < set(runner.kernel_settings(threads=1))
    assert {environment[name] for name in threads} == {"1"}
    # The paths are those that the commands of the recipe make.
    assert f"LABKIT_CACHE={environment['LABKIT_DATA']} " in classroom.installation()
    startup = environment["PYTHONSTARTUP"].removeprefix("/srv/nn-labs/")
    assert (links.ROOT / startup).exists()
    assert f"limits.memory {c.Spawner.mem_limit}\n" in classroom.README.read_text("utf-8")


def test_relative_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#\s]+)", classroom.README.read_text("utf-8")):
        assert "://" in target or (FOLDER / target).exists(), target
