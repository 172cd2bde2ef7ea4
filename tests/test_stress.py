"""labs stress: the margin of every kind of condition, the moving of seeds, and passes of a small lab in a kernel."""

import ast
import json
import math
import re

import nbformat
import numpy as np
import pandas as pd
import pytest

from labkit import cli, runner, stress


def margin(condition, **names):
    """The margin that the rewritten condition of a claim has."""
    node = ast.fix_missing_locations(ast.Expression(stress._graded(ast.parse(condition, mode="eval").body)))
    value = eval(compile(node, "claim", "eval"), {"_stress": stress, "np": np, **names})
    return float(stress._margin(value).all().values)


@pytest.mark.parametrize(
    "condition, expected",
    [
        ("3 > 2", 1 / 3),
        ("2 > 3", -1 / 3),
        ("3 < 2", -1 / 3),
        ("1 <= 2", 1 / 2),
        ("-1 > -2", 1 / 2),
        ("0 > 0.5", -1),
        ("1 < 2 < 2.5", 1 / 5),
        ("3 > 2 and 10 > 1", 1 / 3),
        ("3 > 2 or 10 > 1", 9 / 10),
        ("not 3 > 2", -1 / 3),
        ("all(x > 1 for x in (2, 4))", 1 / 2),
        ("any(x > 1 for x in (2, 4))", 3 / 4),
        ("all([3 > 2, 2 > 3])", -1 / 3),
        ("(np.array([2, 4]) > 1).all()", 1 / 2),
        ("(np.array([2, 4]) > 1).any()", 3 / 4),
        ("np.all(np.array([2, 4]) > 1)", 1 / 2),
        ("bool((np.array([2, 4]) > 1).any())", 3 / 4),
        ("((np.array([2, 4]) > 1) & (np.array([2, 4]) < 5)).all()", 1 / 5),
        ("np.allclose([1.0, 2.0], [1.0, 2.001], rtol=0, atol=0.004)", 3 / 4),
        ("not np.isclose(1.0, 1.3, rtol=0, atol=0.1)", 2),
        ("(series > 1).all()", 1 / 2),
    ],
)
def test_the_margin_of_numbers_is_a_share_of_the_larger(condition, expected):
    assert margin(condition, series=pd.Series([2.0, 4.0])) == pytest.approx(expected)


@pytest.mark.parametrize(
    "condition", ["'a' == 'a'", "1 in (1, 2)", "set() == set()", "True", "np.array_equal([1], [1])", "len('a') == 1"]
)
def test_what_is_no_comparison_of_sizes_is_a_yes_or_a_no(condition):
    assert margin(condition) == math.inf
    assert margin(f"not ({condition})") == -math.inf


def test_nothing_to_compare_is_no_failure_and_nan_is_one():
    assert margin("all(x > 1 for x in ())") == math.inf
    assert margin("any(x > 1 for x in ())") == -math.inf
    assert margin("np.nan > 1") == -math.inf


@pytest.mark.parametrize(
    "source, expected",
    [
        ("SEED = 1\nx = SEED", "SEED = 4\nx = SEED"),
        ("SEEDS = (1, 2)  # why", "SEEDS = (7, 8)  # why"),
        ("x = 1  # SEED = 1", "x = 1  # SEED = 1"),
    ],
)
def test_seeds_move_on_and_nothing_else_changes(source, expected):
    assert stress.rewritten(source, "cell", 3) == expected


def test_seeds_of_two_passes_differ():
    first, second = (set(ast.literal_eval(stress._moved("(1, 2, 3)", shift))) for shift in (0, 1))
    assert not first & second


def test_every_claim_of_the_labs_is_rewritten_and_every_seed_is_found():
    for path in runner.find_labs():
        for cell in stress._code(path):
            if re.search(r"^SEEDS? *=", cell.source, re.M):
                assert stress.rewritten(cell.source, cell.id, 3) != cell.source, cell.id
            if "claim(" not in cell.source:
                continue
            source = stress.rewritten(cell.source, cell.id, 0)
            tree = ast.walk(ast.parse(source))
            called = [node for node in tree if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("claim")]
            assert called and all(ast.unparse(node.func) == "_stress.claim" for node in called), cell.id
        if path.stem[:2] != "00":
            assert any("\nSEED = 4" in "\n" + stress.rewritten(c.source, c.id, 3) for c in stress._code(path)), (
                path.stem
            )


CELLS = {
    "set-up": "SEED = 1\nfrom labkit.claims import claim",
    "a": 'for n in (4, 2):\n    claim("It is more", n > SEED)',
    "b": 'claim("They are the same", str(SEED) == "2")',
    "c": "1 / (SEED - 3)",
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A small lab of which pass 1 fails a claim and pass 3 stops, with a record of its own."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    path = tmp_path / "97_small.ipynb"
    nbformat.write(notebook, path)
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(stress, "RECORD", tmp_path / "results" / "claims.jsonl")
    return path


def test_passes_are_written_down_once_and_failures_do_not_stop_them(lab):
    seen = []
    stress.run([lab], ["digits"], 3, report=seen.append)
    assert [line["shift"] for line in stress.read()] == [0, 1, 2]
    assert stress.read() == seen
    assert [line["claims"]["b/1"]["holds"] for line in seen] == [False, True, False]
    # In a loop, the worst counts: 2 > 1, then 2 > 2, then 2 > 3.
    assert [line["claims"]["a/1"]["margin"] for line in seen] == [0.5, 0, pytest.approx(-1 / 3, abs=1e-3)]
    assert [line["failure"] for line in seen] == [None, None, "cell c: ZeroDivisionError: division by zero"]
    assert all(line["peak_mb"] >= line["held_mb"] > 10 for line in seen)
    stress.run([lab], ["digits"], 4, report=seen.append)
    # The pass that stopped is run again, and the last of each counts.
    assert [line["shift"] for line in seen] == [0, 1, 2, 2, 3]
    assert [line["kernel"] == seen[0]["kernel"] for line in stress.read()] == [True, True, False, False]
    assert sorted(line["shift"] for line in stress.read()) == [0, 1, 2, 3]


def test_again_runs_what_is_recorded_and_its_lines_take_the_place_of_the_old_ones(lab):
    stress.run([lab], ["digits"], 2, report=list)
    other = {**stress.read()[0], "code": "of another day"}
    with stress.RECORD.open("a", encoding="utf-8") as file:
        file.write(json.dumps(other) + "\n")
    seen = []
    stress.run([lab], ["digits"], 2, report=seen.append, again=True)
    assert len({line["kernel"] for line in seen}) == 1
    assert stress.read() == seen
    assert json.dumps(other) in stress.RECORD.read_text("utf-8").splitlines()


def test_a_kernel_that_dies_is_a_failure_and_its_pass_is_tried_again(lab):
    text = lab.read_text("utf-8").replace("1 / (SEED - 3)", "SEED == 2 and __import__('os')._exit(1)")
    lab.write_text(text, encoding="utf-8")
    seen = []
    stress.run([lab], ["digits"], 3, report=seen.append)
    assert [line["shift"] for line in seen] == [0, 1]
    assert "the kernel died" in seen[1]["failure"] and seen[1]["peak_mb"] is None
    stress.run([lab], ["digits"], 3, report=seen.append)
    assert [line["shift"] for line in seen] == [0, 1, 1]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--seeds", "3", "--jobs", "2", "--again"], (["digits"], 3, 2, True)),
        (["--jobs", "1"], (["digits"], stress.PASSES, 1, False)),
    ],
)
def test_labs_stress_hands_its_options_on(lab, monkeypatch, capsys, arguments, expected):
    called = []

    def run(paths, datasets, passes, jobs, report, *, again):
        called.append((paths, (datasets, passes, jobs, again)))

    monkeypatch.setattr(cli, "_have_mnist", lambda: False)
    monkeypatch.setattr(stress, "run", run)
    assert cli.main(["stress", "97", *arguments]) == 1, "nothing is recorded, so nothing holds"
    assert called == [([lab], expected)]


def test_a_torn_line_is_left_out_and_does_not_spoil_the_next(lab):
    stress.run([lab], ["digits"], 1, report=lambda line: None)
    with stress.RECORD.open("a") as file:
        file.write('{"lab": "97_sm')
    stress.run([lab], ["digits"], 2, report=lambda line: None)
    assert [line["shift"] for line in stress.read()] == [0, 1]


def test_a_changed_lab_is_run_anew_but_not_for_a_comment(lab):
    stress.run([lab], ["digits"], 1, report=lambda line: None)
    text = lab.read_text("utf-8")
    lab.write_text(text.replace("SEED = 1", "SEED = 1  # the first"), "utf-8")
    assert len(stress.read()) == 1
    reworded = text.replace('claim(\\"', 'claim(\\"In other words: ')
    assert reworded != text
    lab.write_text(reworded, "utf-8")
    (line,) = stress.read()
    assert any(one["sentence"].startswith("In other words: ") for one in line["claims"].values())
    lab.write_text(text.replace("n > SEED", "n > SEED - 1"), "utf-8")
    assert stress.read() == []


def test_a_digest_is_the_same_on_every_python(tmp_path):
    source = "def f(x: int = 0) -> str:\n    return f'{x!r:>{x}} {{}}' * -1\n\nclass C:\n    y = ''\n%matplotlib inline"
    path = tmp_path / "97_small.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, path)
    assert stress.digest(path) == "fdc75180a06232ba"  # found with 3.11, 3.12 and 3.13


def line(lab, data, shift, **claims):
    found = {name: {"holds": m is None or m > 0, "margin": m, "sentence": f"{name}, {m}"} for name, m in claims.items()}
    return {"lab": lab, "data": data, "shift": shift, "failure": None, "held_mb": 100 + shift, "claims": found}


def test_the_smallest_margin_of_each_claim_is_found_with_its_place():
    lines = [
        line("01_a", "MNIST", 0, x=0.5, y=None),
        line("01_a", "digits", 1, x=0.2),
        line("01_a", "digits", 0, x=-0.1),
    ]
    x, y = stress.by_claim(lines)
    assert (x["runs"], x["failed"], x["margin"], x["where"]) == (3, 1, -0.1, "digits, pass 1")
    assert (x["varied"], y["varied"]) == (True, False)
    assert (y["runs"], y["failed"], y["margin"]) == (1, 0, None)
    assert x["sentence"] == "x, -0.1"
    mnist, digits = stress.by_lab(lines)
    assert (mnist["passes"], mnist["claims"], mnist["failed"], mnist["margin"]) == (1, 2, 0, 0.5)
    assert (digits["passes"], digits["failed"]) == (2, 1)


def test_a_claim_has_varied_if_a_seed_moved_it_and_not_if_the_data_sets_differ():
    lines = [line("01_a", data, shift, x=0.5, y=0.5 + shift / 9) for data in ("MNIST", "digits") for shift in (0, 1)]
    lines[2]["claims"]["x"]["margin"] = lines[3]["claims"]["x"]["margin"] = 0.7
    assert [one["varied"] for one in stress.by_claim(lines)] == [False, True]


def test_memory_is_that_of_one_kernel_from_its_first_pass_to_its_last():
    lines = [line("01_a", "MNIST", k, x=1) | {"kernel": "a", "peak_mb": 300 - k} for k in range(stress.PASSES)]
    (row,) = stress.by_kernel(lines)
    assert list(row.values()) == ["01", "MNIST", 300, 299, 100, 100 + stress.PASSES // 2 - 1, 100 + stress.PASSES - 1]
    for wrong in ({"kernel": "b"}, {"kernel": None}, {"held_mb": None}):
        assert stress.by_kernel([*lines[:-1], lines[-1] | wrong]) == []
    assert stress.by_kernel(lines[:-1]) == []


def test_labs_stress_shows_memory_where_one_kernel_ran_all_passes(lab, capsys):
    same = {"code": stress.digest(lab), "kernel": "a", "peak_mb": 321}
    lines = [json.dumps(line("97_small", "digits", k, x=1) | same) for k in range(stress.PASSES)]
    stress.RECORD.parent.mkdir()
    for kept, shown in ((lines, True), (lines[:-1], False)):
        stress.RECORD.write_text("\n".join(kept) + "\n", "utf-8")
        assert cli.main(["stress", "--show"]) == 0
        assert ("321" in capsys.readouterr().out) is shown


def test_labs_stress_shows_and_fails_where_a_claim_failed(lab, capsys, monkeypatch):
    record = {**line("97_small", "digits", 0, x=-0.25), "code": stress.digest(lab)}
    stress.RECORD.parent.mkdir()
    stress.RECORD.write_text(json.dumps(record) + "\n", "utf-8")
    assert cli.main(["stress", "--show"]) == 1
    assert "-0.25" in capsys.readouterr().out
    stress.RECORD.write_text(json.dumps({**record, "claims": {}}) + "\n", "utf-8")
    assert cli.main(["stress", "--show"]) == 0
    assert "All claims hold in all 1 passes." in capsys.readouterr().out
