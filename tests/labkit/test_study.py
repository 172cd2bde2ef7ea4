"""Studies: the grid, the record, what makes it stale, and what becomes of it when something breaks off."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from tiny_study import TINY, changed, define, edit, tiny, without

from labkit import _machine, _training, study
from labkit.errors import LabError

LOSSES = [f"{part}_{metric}" for part in ("train", "valid", "test") for metric in ("loss", "accuracy")]


def lines_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def numbers_of(runs):
    """The columns that must not depend on how a study is trained."""
    curves = [
        [run.history[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")] for run in runs.itertuples()
    ]
    return runs[["n", "width", "seed", *LOSSES, "parameters"]].to_dict("list"), curves


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The tiny study, recorded by two worker processes."""
    one = tiny(tmp_path_factory.mktemp("recorded"))
    assert one.record(jobs=2) == 4
    return one


@pytest.fixture
def copy(recorded, tmp_path):
    """A folder with a copy of the tiny study's record, to be changed."""
    shutil.copy(recorded.path, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def keras():
    from labkit import session

    session.start(0)
    import keras

    return keras


# ---- The grid and what is refused --------------------------------------------------------------------------


def make(build=lambda units: None, options=None, **settings):
    settings = {"seeds": [1], "epochs": 1, "batch_size": 8} | settings
    return study.Study("02.x", build, lambda: None, {"units": [4]} if options is None else options, **settings)


def test_the_grid_is_every_combination_with_every_seed_configuration_by_configuration():
    one = make(lambda a, b: None, {"a": ["x", "y"], "b": [True, None]}, seeds=range(3, 5))
    combinations = [("x", True), ("x", None), ("y", True), ("y", None)]
    assert one.grid() == [({"a": a, "b": b}, seed) for a, b in combinations for seed in (3, 4)]
    assert repr(one) == "Study 02.x: 4 configurations × 2 seeds, 1 epochs in batches of 8"


def epochs_by_units(units):
    return 3 * units


def test_epochs_and_batch_size_may_depend_on_the_options():
    one = make(options={"units": [4, 2]}, epochs=epochs_by_units, batch_size=lambda seed: 8 * seed, seeds=[1, 2])
    assert repr(one) == "Study 02.x: 2 configurations × 2 seeds, 6 or 12 epochs in batches of 8 or 16"
    assert [one._fit(*run) for run in one.grid()] == [
        {"epochs": epochs, "batch_size": size} for epochs in (12, 6) for size in (8, 16)
    ]


def seeds_by_units(units):
    return range(units)


def test_the_seeds_may_depend_on_the_options():
    one = make(options={"units": [3, 1]}, seeds=seeds_by_units)
    assert one.grid() == [({"units": 3}, 0), ({"units": 3}, 1), ({"units": 3}, 2), ({"units": 1}, 0)]
    assert repr(one) == "Study 02.x: 2 configurations × 1 or 3 seeds, 1 epochs in batches of 8"
    assert one.digest == make(options={"units": [3, 1]}, seeds=[5]).digest


@pytest.mark.slow
def test_a_study_with_different_numbers_of_seeds_is_recorded_and_loaded(tmp_path, keras, capsys):
    source = changed(TINY, ("seeds=(2, 1)", "seeds=lambda width: [1, 2] if width == 'wide' else [7]"))
    one = define(source, tmp_path)["tiny"]
    assert one.record(jobs=1) == 3
    runs = one.load()
    assert list(zip(runs["width"], runs["seed"], strict=True)) == [("wide", 1), ("wide", 2), ("narrow", 7)]
    assert "2 configurations, 1 or 2 seeds each" in capsys.readouterr().out


@pytest.mark.slow
def test_each_run_trains_for_its_own_epochs_in_its_own_batches(tmp_path, keras):
    one = tiny(
        tmp_path,
        ("epochs=2,", "epochs=lambda width: {'wide': 1, 'narrow': 3}[width],"),
        ("batch_size=32,", "batch_size=lambda width: {'wide': 64, 'narrow': 16}[width],"),
        ('logs["units"]', 'logs["steps"] = self.params["steps"]\n            logs["units"]'),
    )
    one.record(jobs=1)
    steps = {run.width: run.history["steps"] for run in one.load().itertuples()}
    assert steps == {"wide": [1], "narrow": [4, 4, 4]}


def test_records_are_with_the_notebooks_unless_told_otherwise(tmp_path):
    assert make().path == study.RESULTS / "02.x.jsonl"
    assert study.RESULTS.parent.name == "notebooks"
    assert make(where=tmp_path).path == tmp_path / "02.x.jsonl"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"build": lambda units, depth, width: None}, "build of study 02.x wants depth, width, .* options \\(units\\)"),
        ({"callbacks": lambda patience: []}, "callbacks of study 02.x wants patience"),
        ({"epochs": lambda depth: 1}, "epochs of study 02.x wants depth"),
        ({"options": {"units": [4], "rate": [1], "depth": [2]}}, "No function of study 02.x takes depth, rate"),
        ({"options": {"units": [(4, 2)]}}, "Study 02.x: an option is a number or a text.* not \\(4, 2\\)"),
        ({"options": {"units": [4, [4]]}}, "not \\[4\\]"),
        ({"seeds": [1, (2,)]}, "seeds are whole numbers, not \\[1, \\(2,\\)\\]"),
        ({"seeds": lambda depth: [1]}, "seeds of study 02.x wants depth"),
        ({"seeds": lambda: ["one"]}, "seeds are whole numbers"),
        ({"seeds": lambda: [1, 1]}, "one or more different values, not \\[1, 1\\]"),
        ({"seeds": lambda: []}, "one or more different values, not \\[\\]"),
    ],
)
def test_a_study_that_cannot_work_is_refused_in_one_sentence(arguments, words):
    with pytest.raises(LabError, match=words) as refusal:
        make(**arguments)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"options": {"units": "plain"}},  # would be five letters
        {"options": {"units": []}},
        {"options": {"units": [4, 4]}},
        {"options": {"units": [4], "seed": [1]}},
        {"seeds": []},
        {"seeds": [1, 1]},
        {"seeds": ["one"]},
        {"seeds": [None]},
    ],
    ids=str,
)
def test_a_grid_that_cannot_be_meant_is_refused(arguments):
    with pytest.raises(LabError):
        make(**arguments)


def test_load_build_and_callbacks_may_each_take_options_and_the_seed():
    functions = (lambda a, seed: None, lambda seed, b: None)
    options = {"a": [1], "b": [2], "c": [3]}
    one = study.Study("02.x", *functions, options, seeds=[1], epochs=1, batch_size=1, callbacks=lambda c, seed: [])
    assert len(one.grid()) == 1


# ---- What is recorded --------------------------------------------------------------------------------------


def test_a_record_has_one_line_a_run_in_the_order_of_the_grid(recorded):
    lines = lines_of(recorded.path)
    assert [(line["options"], line["seed"]) for line in lines] == recorded.grid()
    assert recorded.path.read_bytes().endswith(b"}\n")
    keys = {"options", "seed", "data", "parameters", "train", "valid", "test", "seconds", "history", "versions"}
    for line in lines:
        assert set(line) == keys | {"digest", "check"}
        assert line["digest"] == recorded.digest
        assert line["data"] == "noise 64", "load got its option, and the data has the name that load gave it"
        assert set(line["versions"]) == {"python", "numpy", "tensorflow", "keras"}
        assert line["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
        assert line["seconds"] > 0
    assert [path.name for path in recorded.path.parent.iterdir()] == ["02.tiny.jsonl"], "nothing is left lying about"


def test_runs_are_loaded_as_one_row_each(recorded, capsys):
    runs = recorded.load()
    lines = lines_of(recorded.path)
    keras_version = lines[0]["versions"]["keras"]
    assert capsys.readouterr().out == (
        f"02.tiny: 4 recorded runs (2 configurations, 2 seeds each) on noise 64, made with Keras {keras_version}.\n"
    )
    assert sorted(runs.columns[3:9]) == sorted(LOSSES)
    assert [*runs.columns[:3], *runs.columns[9:]] == ["n", "width", "seed", "parameters", "seconds", "history"]
    assert list(zip(runs.n, runs.width, runs.seed, strict=True)) == [(64, o["width"], s) for o, s in recorded.grid()]
    for run, line in zip(runs.to_dict("records"), lines, strict=True):
        assert {key: run[key] for key in ("parameters", "seconds", "history")} == {
            key: line[key] for key in ("parameters", "seconds", "history")
        }
        for part in ("train", "valid", "test"):
            assert {"loss": run[f"{part}_loss"], "accuracy": run[f"{part}_accuracy"]} == line[part]
    assert dict(zip(runs.width, runs.parameters, strict=True)) == {"wide": 5 * 3 + 4 * 2, "narrow": 5 * 2 + 3 * 2}
    assert runs.index.tolist() == [0, 1, 2, 3]


def test_columns_come_in_the_promised_order(recorded, capsys):
    assert list(recorded.load().columns) == ["n", "width", "seed", *LOSSES, "parameters", "seconds", "history"]


def test_histories_have_one_value_an_epoch_also_of_what_callbacks_log(recorded):
    for line in lines_of(recorded.path):
        history = line["history"]
        assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy", "units", "named", "process"}
        assert {len(values) for values in history.values()} == {2}
        assert history["units"] == [{"wide": 3, "narrow": 2}[line["options"]["width"]]] * 2
        assert history["named"] == [line["seed"]] * 2, "build got the seed"
        assert history["val_accuracy"][-1] == line["valid"]["accuracy"], "the split is the data's own"
        assert history["loss"][-1] != line["train"]["loss"], "evaluated after training, without dropout"


def test_runs_were_trained_side_by_side_in_other_processes(recorded):
    processes = {line["history"]["process"][0] for line in lines_of(recorded.path)}
    assert os.getpid() not in processes
    assert len(processes) == 2


def test_different_seeds_and_options_give_different_runs(recorded):
    assert len({line["train"]["loss"] for line in lines_of(recorded.path)}) == 4


def test_a_second_recording_trains_nothing_and_leaves_the_file_alone(recorded, capsys):
    before = recorded.path.read_bytes(), recorded.path.stat().st_mtime_ns
    assert recorded.record(jobs=2) == 0
    assert (recorded.path.read_bytes(), recorded.path.stat().st_mtime_ns) == before
    assert recorded.status() == study.Status(recorded.grid(), [], [], [], [])
    assert recorded.status().complete and recorded.complaint() is None


@pytest.mark.slow
def test_load_callbacks_and_build_get_the_seed_if_they_want_it(keras, tmp_path):
    source = changed(
        TINY,
        ("def load(n):", "def load(n, seed):"),
        ('f"noise {n}"', 'f"noise {n} {seed}"'),
        ("def callbacks(width):", "def callbacks(seed):"),
        ("UNITS[width]\n            logs", "seed\n            logs"),
        ('["wide", "narrow"]', '["wide"]'),
    )
    one = define(source, tmp_path)["tiny"]
    one.record(jobs=1)
    assert [line["data"] for line in lines_of(one.path)] == ["noise 64 2", "noise 64 1"]
    assert [line["history"]["units"] for line in lines_of(one.path)] == [[2, 2], [1, 1]]


# ---- The same numbers, however it is trained ---------------------------------------------------------------


def test_a_run_gives_what_the_same_code_gives_in_a_notebook(recorded, keras):
    import numpy as np

    namespace = define(TINY)
    line = lines_of(recorded.path)[1]
    data = namespace["load"](64)
    keras.utils.set_random_seed(1)
    model = namespace["build"]("wide", 1)
    settings = {"epochs": 2, "batch_size": 32, "validation_data": (data.x_valid, data.y_valid), "verbose": 0}
    history = model.fit(data.x_train, data.y_train, **settings).history
    for metric, values in history.items():
        np.testing.assert_allclose(line["history"][metric], values, rtol=2e-6)
    after = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    assert line["test"] == pytest.approx(after, rel=2e-6)
    assert (line["options"]["width"], line["seed"]) == ("wide", 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["one job", "joblib"])
def test_one_run_at_a_time_gives_the_numbers_of_two(recorded, keras, copy, capsys, way):
    expected = numbers_of(recorded.load())
    gone = {"one job": (1, 2), "joblib": (0,)}[way]
    edit(copy, without(*gone))
    again = tiny(copy)
    if way == "joblib":
        assert again.record(jobs=1, backend="sequential") == len(gone)
    else:
        assert again.record(jobs=1) == len(gone)
    assert numbers_of(again.load()) == expected
    kept = [number for number in range(4) if number not in gone]
    before, after = recorded.path.read_text("utf-8").splitlines(), again.path.read_text("utf-8").splitlines()
    assert [before[number] for number in kept] == [after[number] for number in kept]


# ---- Broken off --------------------------------------------------------------------------------------------

# Twelve runs that train nothing, but write down that they were asked to: broken off at many moments in a short time.
STANDS_IN = """
import sys
import time
from pathlib import Path

from labkit import _training, study

FOLDER = Path(sys.argv[1])


def train(functions, options, seed, *rest):
    time.sleep(0.1)
    with (FOLDER / "trained.txt").open("a") as file:
        file.write(f"{options['units']} {seed}\\n")
    metrics = {"loss": 0.5, "accuracy": 0.25}
    made = {"options": options, "seed": seed, "data": "none", "parameters": 1, "seconds": 0.1, "versions": {}}
    return made | {"train": metrics, "valid": metrics, "test": metrics, "history": {"loss": [0.1] * 5000}}


def build(units):
    return None


def load():
    return None


_training.train = train
twelve = study.Study(
    "02.twelve", build, load, {"units": [4, 2, 3]}, seeds=range(4), epochs=1, batch_size=1, where=FOLDER
)
if __name__ == "__main__":
    print(twelve.record(jobs=2), twelve.status().complete)
"""


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start(script, folder, *arguments):
    return subprocess.Popen(
        [sys.executable, script, folder, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that it can be killed with its workers
    )


def kill_after(process, path, lines, limit=90):
    """Kill the process and its workers once the record has so many lines; return whether it was still at work."""
    end = time.monotonic() + limit
    while count_lines(path) < lines and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    alive = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups and no SIGKILL")


@pytest.mark.slow
@needs_posix
def test_killed_at_several_moments_nothing_that_was_written_is_lost_or_trained_again(tmp_path):
    script, path = tmp_path / "twelve.py", tmp_path / "02.twelve.jsonl"
    script.write_text(STANDS_IN, encoding="utf-8")
    kept = set()
    for lines in (1, 4, 9):
        assert kill_after(start(script, tmp_path), path, lines)
        written = path.read_text("utf-8")
        sound = [line for line in written.splitlines(keepends=True) if line.endswith("\n")]
        assert len(sound) >= lines
        assert all("check" in json.loads(line) for line in sound)
        assert kept <= set(sound), "what was there is still there, byte by byte"
        kept = set(sound)
    out, err = start(script, tmp_path).communicate(timeout=60)
    assert out.endswith(f"{12 - len(kept)} True\n") and err == ""
    assert kept <= set(path.read_text("utf-8").splitlines(keepends=True))
    trained = (tmp_path / "trained.txt").read_text("utf-8").splitlines()
    assert len(set(trained)) == 12
    assert len(trained) <= 12 + 3 * 4, "each time no more was lost than what the workers had begun or handed in"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
@needs_posix
def test_killed_while_the_file_is_rewritten_nothing_is_lost(tmp_path):
    script, path = tmp_path / "twelve.py", tmp_path / "02.twelve.jsonl"
    dying = (
        "import os\nreplace = os.replace\n"
        "os.replace = lambda old, new: os.kill(os.getpid(), 9) if os.path.exists(new) else replace(old, new)\n"
    )
    script.write_text(dying + STANDS_IN, encoding="utf-8")
    killed = start(script, tmp_path)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    before = set(path.read_text("utf-8").splitlines())
    script.write_text(STANDS_IN, encoding="utf-8")
    out, _ = start(script, tmp_path).communicate(timeout=60)
    assert out.endswith("0 True\n")
    assert set(path.read_text("utf-8").splitlines()) == before and len(before) == 12
    assert not list(tmp_path.glob("*.part")), "what the killed one left is cleared away"


@pytest.mark.slow
@needs_posix
def test_killed_while_it_trains_a_second_recording_ends_with_the_same_numbers(recorded, keras, tmp_path, capsys):
    script = tmp_path / "tiny.py"
    text = TINY.replace("FOLDER", "sys.argv[1]").replace("import os\n", "import os\nimport sys\n", 1)
    script.write_text(text + "\nif __name__ == '__main__':\n    tiny.record(jobs=2)\n", encoding="utf-8")
    one = tiny(tmp_path)
    assert kill_after(start(script, tmp_path), one.path, 1)
    kept = [line for line in one.path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
    status = one.status()
    assert len(status.fresh) == len(kept) < 4, "the code is the same in a file as in a cell"
    assert status.stale == status.others == []
    assert one.record(jobs=1) == 4 - len(kept)
    assert set(kept) <= set(one.path.read_text("utf-8").splitlines(keepends=True))
    assert numbers_of(one.load()) == numbers_of(recorded.load())


@pytest.mark.slow
def test_a_torn_last_line_is_said_and_mended(recorded, keras, copy, capsys):
    one = tiny(copy)
    whole = one.path.read_bytes()
    one.path.write_bytes(whole[:-200])
    assert one.status().damaged == [4]
    assert one.status().missing == recorded.grid()[3:]
    assert "line 4 of 02.tiny.jsonl cut off or edited by hand" in one.complaint()
    assert len(one.load()) == 3
    assert one.record(jobs=1) == 1
    assert one.status().complete
    assert one.path.read_bytes().splitlines()[:3] == whole.splitlines()[:3]


@pytest.mark.parametrize("rest", [b"", b"{", b'{"options": {}', b"[1, 2]\n", b"null\n", b'"x"\n', b"\xc3"])
def test_any_rest_of_a_line_is_no_more_than_one_damaged_line(copy, rest):
    one = tiny(copy)
    one.path.write_bytes(one.path.read_bytes() + rest)
    if rest == b"\xc3":
        with pytest.raises(LabError, match=r"02\.tiny\.jsonl cannot be read .* with git or by downloading"):
            one.status()
    else:
        assert one.status().damaged == ([5] if rest else [])
        assert len(one.status().fresh) == 4


# ---- Stale -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [("0.2", "0.3"), ("epochs=2", "epochs=3")])
def test_changed_code_makes_every_run_stale(recorded, copy, change):
    one = tiny(copy, change)
    status = one.status()
    assert (status.fresh, status.stale, status.missing) == ([], recorded.grid(), [])
    assert not status.complete
    complaint = one.complaint()
    assert "4 of its runs are stale" in complaint and "undo what has changed" in complaint
    with pytest.raises(LabError) as refusal:
        one.load()
    assert str(refusal.value) == complaint


@pytest.mark.slow
def test_stale_runs_stay_until_they_are_replaced(recorded, keras, copy, capsys):
    broken = ("    import keras\n\n    hidden", "    import keras\n\n    assert width == 'narrow'\n    hidden")
    one = tiny(copy, broken)
    before = recorded.path.read_text("utf-8").splitlines()
    with pytest.raises(LabError, match="width=wide with seed 2 failed with AssertionError"):
        one.record(jobs=1)
    assert [len(runs) for runs in (one.status().fresh, one.status().stale, one.status().missing)] == [1, 3, 0]
    assert len(one.load()) == 1
    assert {*before[:2], before[3]} <= set(one.path.read_text("utf-8").splitlines())
    assert tiny(copy).status().complete, "with the old code back, the old record is whole again"


def test_runs_start_seed_by_seed_and_with_the_last_of_the_options(keras, tmp_path, capsys, monkeypatch):
    # The last are mostly the largest networks; started last, one of them would train on alone at the end.
    started = []

    def not_trained(calls, jobs, backend):
        started.extend(call[1:3] for call in calls)
        yield from ()

    monkeypatch.setattr(_training, "side_by_side", not_trained)
    one = tiny(tmp_path)
    one.record()
    wide, narrow = {"n": 64, "width": "wide"}, {"n": 64, "width": "narrow"}
    assert started == [(narrow, 2), (wide, 2), (narrow, 1), (wide, 1)]


# ---- Edited by hand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["seconds", "parameters", "seed", "accuracy", "digest", "named"])
def test_one_changed_figure_makes_a_line_damaged(recorded, copy, capsys, key):
    def change(lines):
        before, middle, after = lines[2].partition(f'"{key}": ')
        position = next(n for n, sign in enumerate(after) if sign in "012345678")
        lines[2] = before + middle + after[:position] + str(int(after[position]) + 1) + after[position + 1 :]
        return lines

    edit(copy, change)
    one = tiny(copy)
    assert one.status().damaged == [3] and one.status().missing == [recorded.grid()[2]]
    assert not one.status().complete
    complaint = one.complaint()
    assert "line 3 of 02.tiny.jsonl cut off or edited by hand" in complaint
    assert "1 of its runs are missing (n=64, width=narrow)" in complaint
    assert "`labs record 02`" in complaint
    runs = one.load()
    assert list(zip(runs.width, runs.seed, strict=True)) == [("wide", 2), ("wide", 1), ("narrow", 1)]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == complaint
    assert out[1].startswith("02.tiny: 3 recorded runs (2 configurations, up to 2 seeds each)")


def test_a_deleted_line_is_a_missing_run(recorded, copy, capsys):
    edit(copy, without(0, 3))
    one = tiny(copy)
    assert one.status() == study.Status(recorded.grid()[1:3], [], [recorded.grid()[0], recorded.grid()[3]], [], [])
    assert "2 of its runs are missing (n=64, width=wide; n=64, width=narrow)" in one.complaint()
    assert "undo" not in one.complaint()
    assert len(one.load()) == 2


def test_lines_in_another_order_are_still_the_grid(recorded, copy, capsys):
    edit(copy, lambda lines: lines[::-1])
    one = tiny(copy)
    assert one.status().complete
    assert one.load().equals(recorded.load())


def test_runs_outside_of_the_grid_are_named_and_left_out(recorded, copy, capsys):
    one = tiny(copy, ('["wide", "narrow"]', '["narrow"]'))
    status = one.status()
    assert (status.fresh, status.others) == (recorded.grid()[2:], recorded.grid()[:2])
    assert not status.complete
    assert "2 of its runs are not of this grid (n=64, width=wide)" in one.complaint()
    assert set(one.load().width) == {"narrow"}
    assert one.record() == 0
    assert one.status().complete and len(lines_of(one.path)) == 2


def test_another_seed_is_another_run(recorded, copy):
    one = tiny(copy, ("seeds=(2, 1)", "seeds=(2, 5)"))
    assert [seed for _, seed in one.status().missing] == [5, 5]
    assert [seed for _, seed in one.status().others] == [1, 1]


def test_without_a_record_there_is_nothing_to_load(tmp_path):
    one = tiny(tmp_path / "nowhere")
    assert one.status().missing == one.grid() and not one.status().complete
    with pytest.raises(LabError, match=r"Study 02\.tiny is not complete: 4 of its runs are missing .*`labs record 02`"):
        one.load()


# ---- Runs that fail ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_finished_ones_are_kept(keras, tmp_path, capsys):
    broken = ("    import keras\n\n    hidden", "    import keras\n\n    1 / (width != 'wide')\n    hidden")
    one = tiny(tmp_path, broken)
    with pytest.raises(LabError) as failure:
        one.record(jobs=1)
    assert str(failure.value) == (
        "Study 02.tiny stopped, because its run n=64, width=wide with seed 2 failed with "
        "ZeroDivisionError: division by zero (1 finished runs are kept)."
    )
    assert failure.value.__context__ is None or isinstance(failure.value.__context__, LabError)
    assert one.status().fresh == [one.grid()[2]]


@pytest.mark.slow
def test_a_lab_error_in_a_run_is_passed_on_as_it_is(keras, tmp_path, capsys):
    source = (
        "    import keras\n\n    hidden",
        "    from labkit.errors import LabError\n\n    raise LabError('No luck.')\n    hidden",
    )
    with pytest.raises(LabError, match=r"width=narrow with seed 2 failed with No luck\. \(0 finished"):
        tiny(tmp_path, source).record(jobs=1)


@pytest.mark.slow
def test_every_run_computes_with_one_thread_so_that_its_numbers_are_the_same_everywhere(tmp_path, monkeypatch):
    for name in _machine.environment(1):
        monkeypatch.delenv(name, raising=False)
    logged = 'logs["process"] = os.getpid()'
    threads = 'int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))'
    one = tiny(tmp_path, (logged, f'{logged}\n            logs["threads"] = {threads}'))
    one.record(jobs=2)
    assert [history["threads"] for history in one.load().history] == [[1, 1]] * 4


@pytest.mark.slow
def test_the_courses_records_are_not_trained_on_the_stand_in(keras, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    with pytest.raises(LabError, match="having no MNIST"):
        tiny(tmp_path, ('f"noise {n}"', '"digits"')).record(jobs=1)


@pytest.mark.slow
def test_a_log_that_cannot_be_recorded_is_a_failed_run(keras, tmp_path, capsys):
    source = ("import keras\n\n    class", "import keras\n    import numpy as np\n\n    class")
    one = tiny(tmp_path, source, ('logs["units"] = UNITS[width]', 'logs["units"] = np.ones(2)'))
    with pytest.raises(LabError, match="seed 2 failed with"):
        one.record(jobs=1)


@pytest.mark.slow
@needs_posix
def test_a_killed_worker_is_one_sentence_and_the_finished_runs_are_kept(tmp_path, capsys):
    # The second run waits for the first to be written down.
    killed = (
        "    import keras\n\n    hidden",
        "    import keras\n    import signal\n\n"
        "    if width == 'narrow':\n"
        "        while not os.path.getsize(PATH):\n            time.sleep(0.05)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    hidden",
    )
    path = tmp_path / "02.tiny.jsonl"
    one = tiny(tmp_path, killed, ("PAUSE = 0", f"PAUSE = 0\nPATH = {str(path)!r}"))
    with pytest.raises(LabError, match="A worker process died, most likely because the memory ran out") as failure:
        one.record(jobs=2)
    assert "\n" not in str(failure.value)
    assert failure.value.__suppress_context__
    assert 1 <= len(one.status().fresh) <= 2
    assert {options["width"] for options, _ in one.status().fresh} == {"wide"}
    assert one.status().damaged == []


# ---- On a cluster ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_dask(tmp_path_factory):
    """The tiny study recorded by Dask: (the study, process ids of the cluster's workers).

    It pauses in build, so that a worker's other threads have time to disturb it.
    """
    pytest.importorskip("distributed", reason="Dask is an extra")
    from dask.distributed import Client, LocalCluster

    one = tiny(tmp_path_factory.mktemp("dask"), ("PAUSE = 0", "PAUSE = 1.5"))
    settings = {"n_workers": 2, "processes": True, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        processes = set(client.run(os.getpid).values())
        assert one.record(backend="dask") == 4
    return one, processes


@pytest.mark.slow
def test_on_dask_each_run_has_a_process_to_itself(on_dask):
    one, processes = on_dask
    assert one.status().complete
    used = {line["history"]["process"][0] for line in lines_of(one.path)}
    assert len(used) == 4 and not used & {os.getpid(), *processes}, "each run has a process to itself"


@pytest.mark.slow
def test_dask_gives_the_numbers_of_this_machines_processes(on_dask, recorded, capsys):
    assert numbers_of(on_dask[0].load()) == numbers_of(recorded.load())
