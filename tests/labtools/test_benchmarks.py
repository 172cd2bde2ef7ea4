"""The benchmarks' own arithmetic: operations counted from layers, ratios, and tables made of what was kept."""

import json
import sys
import time

import psutil
import pytest
from PIL import Image

from labkit import runner, stress

sys.path.insert(0, str(runner.ROOT / "benchmarks"))
import installations
import record
import report
import training

import classroom


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(stress, "RECORD", tmp_path / "claims.jsonl")
    return tmp_path


@pytest.fixture
def keras():
    from labkit import session

    session.start(1)
    import keras

    return keras


def test_operations_of_a_dense_network_are_counted_forward_and_back(keras):
    layers = [keras.layers.Dense(5), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    # Forward 2 (15 + 10); back as much for the weights, and 2 * 10 for the inputs of the second layer.
    assert training.training_flops(model) == 50 + 50 + 20


def test_operations_of_a_convolution_count_once_per_place(keras):
    layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    convolution, dense = 2 * 3 * 3 * 4 * 16, 2 * 4 * 16 * 2
    assert training.training_flops(model) == 2 * convolution + 3 * dense


def measured(plain, steps, fused, torch=()):
    run = {
        "seconds": {"plain": plain, "steps": steps, "steps and XLA": fused},
        "first": {"plain": 1, "steps": 2, "steps and XLA": 3},
        "accuracy": {"plain": 0.9, "steps": 0.91, "steps and XLA": 0.92},
        "flops": 1e9,
        "peak": 4e9,
    }
    return {"keras": [run], "torch": [{"seconds": list(torch), "accuracy": 0.9, "version": "2.0+cpu"}] if torch else []}


def test_a_ratio_is_the_median_of_pairs_and_a_share_is_one_of_the_peak():
    row = training.summary("A1", measured([2, 4, 6], [1, 4, 2], [1, 1, 1], torch=[1, 2]))
    assert row["steps"]["ratio"] == 2  # of 2, 1 and 3
    assert row["plain"]["ratio"] == 1
    assert row["xla_against_steps"]["ratio"] == 2  # of 1, 4 and 2
    assert row["plain"]["share_of_peak"] == pytest.approx(1 / 4 / 4)
    assert row["torch"]["ratio"] == pytest.approx(4 / 1.5)


def test_what_is_kept_is_read_again_with_versions_and_machine(folder):
    record.write("some", [{"a": 1}], training.summary)
    kept = record.read("some")
    assert kept["rows"] == [{"a": 1}]
    assert kept["versions"]["numpy"] and "cores" in kept["machine"]
    assert kept["code"] == {"training.summary": record.digest(training.summary)}
    assert record.read("other") is None
    assert [path.name for path in folder.iterdir()] == ["some.json"]


def test_numbers_of_earlier_code_are_called_so(folder, monkeypatch):
    rows = [{"study": "x", "plain": 2.0, "recorded": 1.0, "ratio": 2.0}]
    record.write("study", rows, training.summary, training.timed)
    assert record.changed(record.read("study")) == []
    assert "changed" not in report.studies()
    monkeypatch.setattr(training, "timed", training.summary)
    monkeypatch.delattr(training, "summary")
    record.digest.cache_clear()
    assert record.changed(record.read("study")) == ["training.summary", "training.timed"]
    assert report.studies().endswith("*Measured before `training.summary`, `training.timed` changed.*")


def test_rows_of_an_earlier_code_among_new_ones_are_not_passed_off_as_new(folder):
    record.write("some", [{"a": 1}], training.summary)
    same = record.read("some")
    record.write("some", [{"a": 1}, {"a": 2}], training.summary, among=same)
    assert record.changed(record.read("some")) == []
    other = same | {"code": {"training.summary": "another"}}
    record.write("some", [{"a": 1}, {"a": 2}], training.summary, among=other)
    assert record.changed(record.read("some")) == ["training.summary"]


def test_code_whose_file_is_gone_has_changed():
    measured = {"labkit": record.digest_of_package("labkit")}
    found = record.changed({"code": {"no_such_file.function": "0"}, "measured": measured})
    assert found == ["no_such_file.function"]


def test_memory_is_shown_where_one_kernel_ran_all_passes(folder):
    path = runner.find_labs(["06"])[0]
    claims = {"c/1": {"holds": True, "margin": 0.5, "sentence": "a"}}
    line = {"lab": path.stem, "data": "MNIST", "code": stress.digest(path), "failure": None, "claims": claims}
    line |= {"kernel": "a", "peak_mb": 1300}
    lines = [line | {"shift": shift, "held_mb": 100 + shift} for shift in range(stress.PASSES)]
    for last, said in ((lines[-1], True), (lines[-1] | {"kernel": "b"}, False)):
        stress.RECORD.write_text("\n".join(map(json.dumps, [*lines[:-1], last])) + "\n", "utf-8")
        assert ("| 06 | 1300 | 1300 | 100 | 104 | 109 |" in report.claims().splitlines()) is said
        assert ("Highest of all: 1,300." in report.claims()) is said


def test_claims_that_vary_are_named_nearest_first(folder):
    path = runner.find_labs(["06"])[0]
    line = {"lab": path.stem, "data": "digits", "code": stress.digest(path), "failure": None, "held_mb": 1}
    margins = {"fixed": (0.001, 0.001), "far": (0.5, 0.3), "near": (0.2, 0.1)}
    passes = [
        line | {"shift": k, "claims": {n: {"holds": True, "margin": m[k], "sentence": n} for n, m in margins.items()}}
        for k in (0, 1)
    ]
    stress.RECORD.write_text("\n".join(map(json.dumps, passes)) + "\n", "utf-8")
    assert "false:\n\n- 06: near. 0.1 (digits, pass 2)\n- 06: far. 0.3 (digits, pass 2)" in report.claims()
    assert "fixed" not in report.claims()


def test_a_command_that_hangs_is_broken_off_with_what_it_started(tmp_path):
    lines = ["import subprocess, sys", "sleep = [sys.executable, '-c', 'import time; time.sleep(120)']"]
    # A child that held the pipe would be waited for, and would have ended by then in any case.
    lines += ["child = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"]
    lines += ["open('child', 'w').write(str(child.pid))", "child.wait()"]
    said = installations.call([sys.executable, "-c", "\n".join(lines)], tmp_path, seconds=10)
    assert said == (1, "broken off after 10 seconds")
    assert ended(int((tmp_path / "child").read_text()), seconds=20)


def ended(pid, seconds):
    """Whether a process that was killed ends within so many seconds; it need not do so at once."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_without_measurements_every_block_says_what_to_run(folder):
    for name, block in report.BLOCKS.items():
        assert "`labs " in block(), name


def test_the_table_of_speed_shows_what_was_measured(folder):
    record.write("training", [training.summary("A1", measured([2, 4, 6], [1, 4, 2], [1, 1, 1], torch=[1, 2]))])
    head, rule, row = report.speed().splitlines()[:3]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "784-512-512-10, SGD, batches of 128",
        "4.00 s for 12,800 images",
        "2.00 (1.00–3.00)",
        "4.00 (2.00–6.00)",
        "2.67 (1.00–6.00)",  # 2 to 6 s against 1 to 2 s
        "6% → 25%",
        "0.900–0.900, 0.910–0.910, 0.920–0.920, 0.900–0.900",
    ]
    assert head.count("|") == rule.count("|") == row.count("|")


def test_faults_are_added_up(folder):
    row = {"fault": "x", "tried": 3, "survived": 2, "how": "y"}
    record.write("faults", [row, row | {"tried": 5, "survived": 5}])
    assert "| all | 8 | 7 |  |" in report.faults().splitlines()


def test_growth_is_told_as_a_power_of_what_grows(folder):
    points = [(1, 1.0), (2, 2.0), (4, 4.0), (8, 16.0)]
    rows = [{"axis": axis, "cores": 1, "value": v, "seconds": s} for axis in report.TITLES for v, s in points]
    record.write("growth", rows)
    assert "from 1 to 2 the time grows with the power 1.0, from 4 to 8 with 2.0." in report.growth()
    report.growth_figure(folder / "growth.png")
    with Image.open(folder / "growth.png") as image:
        assert image.size[0] > 500
        assert image.text["Source"] == report.growth_digest()


def test_the_figure_of_growth_shows_the_points_that_are_kept():
    with Image.open(report.FIGURE) as image:
        assert image.text["Source"] == report.growth_digest()


def test_pytorch_is_compared_with_what_both_spreads_allow():
    plain, torch = {"spread": [2, 4]}, {"ratio": 1.5, "spread": [1, 4]}
    assert report._ratio_of_ranges(plain, torch) == "1.50 (0.50–4.00)"


def test_two_labs_at_once_are_measured_and_worked_out(folder):
    sizes = {"rss_mb": 100, "own_mb": 80, "shared_mb": 20, "pss_mb": 100}
    rows = [{"what": "server", "name": "jupyter lab", "kernels": 1} | sizes]
    for name, kernels, own in (("01_a", 1, 600), ("02_b", 1, 700), ("03_c", 1, 900), ("03_c", 2, 900)):
        memory = {"rss_mb": own + 400, "own_mb": own, "shared_mb": 400, "pss_mb": 1900}
        rows.append({"what": "lab", "name": name, "kernels": kernels} | memory)
    record.write("classroom", rows)
    said = classroom.two_labs()
    assert "two of lab 03 really held 2,000 MB" in said
    # 700 + 900 of their own, 400 shared, 100 of the server; with 600 + 900 it is 2,000, with 600 + 700 it is 1,800.
    assert "02 and 03, hold 2,100 MB, and 2 of 3 pairs" in said


def test_labs_that_have_changed_since_are_named():
    digests = {path.stem[:2]: stress.digest(path) for path in runner.find_labs(["01", "06"])}
    assert record.said_labs(digests) == ""
    assert "changed: 01, 99." in record.said_labs(digests | {"01": None, "99": "0"})


def test_imports_are_told_in_milliseconds(folder):
    record.write("imports", [{"import": "x", "seconds": 3.4728, "least": 0.0002, "most": 4}])
    assert "| x | 3,473 | 0.2 | 4,000 |" in report.imports().splitlines()


def test_what_was_measured_is_within_the_limits_that_the_readme_names():
    """Each lab below 1.5 GB and three minutes."""
    rows = record.read("labs")["rows"]
    for what, limit in (("peak MB", 1500), ("seconds", 180)):
        found = {f"{row['lab']}, {name}": row[name] for row in rows for name in row if name.startswith(what)}
        assert found and {name: value for name, value in found.items() if value >= limit} == {}
    alone = [row for row in record.read("classroom")["rows"] if row["what"] == "lab" and row["kernels"] == 1]
    assert max(row["rss_mb"] for row in alone) < 1500


def test_claims_that_fail_are_counted_and_have_their_margin_in_the_long_form(folder):
    claims = {"c/1": {"holds": False, "margin": -0.125, "sentence": "a | b"}}
    claims |= {"c/2": {"holds": True, "margin": 1, "sentence": "b"}}
    path = runner.find_labs(["06"])[0]
    line = {"lab": path.stem, "data": "MNIST", "shift": 0, "code": stress.digest(path), "failure": None}
    stress.RECORD.write_text(json.dumps(line | {"held_mb": 1, "claims": claims}) + "\n", "utf-8")
    assert "| 06 | MNIST | 1 | 2 | 0 | 1 | -0.12 |" in report.claims()
    assert "| 06 | `c/2` | b | 1 | 0 | 1 | MNIST, pass 1 |" in report.all_claims()
    assert "| 06 | `c/1` | a \\| b | 1 | 1 | -0.12 | MNIST, pass 1 |" in report.all_claims()


def test_a_measurement_is_old_when_what_it_measured_has_changed(folder, monkeypatch):
    record.write("imports", [{"import": "x", "seconds": 1}], training.summary)
    assert record.changed(record.read("imports")) == []
    monkeypatch.setattr(record, "digest_of_package", lambda name: "another")
    assert record.changed(record.read("imports")) == ["labkit"]
    assert "Measured before `labkit` changed" in record.said_changed(record.read("imports"))
