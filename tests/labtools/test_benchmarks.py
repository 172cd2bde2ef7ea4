"""Benchmarks: what is measured is kept with its circumstances, and shown in their README."""

import importlib.util

import pytest

from labtools import project


@pytest.fixture
def bench(tmp_path, monkeypatch):
    path = project.ROOT / "benchmarks" / "run.py"
    spec = importlib.util.spec_from_file_location("bench_run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "README", tmp_path / "README.md")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


def test_what_is_measured_is_kept_and_shown_with_its_circumstances(bench, monkeypatch, capsys):
    bench.README.write_text("before\n<!-- imports -->\nold\n<!-- end of imports -->\nafter\n", encoding="utf-8")

    def imports():
        """Quick."""
        return [{"import": "a", "seconds": 0.12345}, {"import": "b", "seconds": 234.5}]

    monkeypatch.setitem(bench.PARTS, "imports", imports)
    monkeypatch.setattr("sys.argv", ["run.py", "imports"])
    bench.main()
    text = bench.README.read_text("utf-8")
    assert "| a | 0.123 |" in text and "| b | 234 |" in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "Python 3." in text and "cores" in text and " at " in text


def test_every_part_has_its_place_in_the_readme(bench):
    text = (project.ROOT / "benchmarks" / "README.md").read_text("utf-8")
    for name in bench.PARTS:
        assert f"<!-- {name} -->" in text and f"<!-- end of {name} -->" in text


def test_a_measurement_that_stops_says_why(bench):
    with pytest.raises(SystemExit, match="ZeroDivisionError"):
        bench.printed("1 / 0")
    assert bench.printed("print('words'); print(2.5)") == 2.5
