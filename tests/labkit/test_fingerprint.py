"""The fingerprint of a study's code: all that decides its numbers, and nothing else."""

import os
import subprocess
import sys

import pytest
from tiny_study import CODE, define, digest

from labkit import _training, study
from labkit.errors import LabError

STALE = {
    "build": ("for _ in range(3)]", "for _ in range(4)]"),
    "a text in build that looks like a comment": ("# no comment", "# another"),
    "a number that an inner function reads": ("DEPTH = 2", "DEPTH = 3"),
    "a number's kind": ("DEPTH = 2", "DEPTH = 2.0"),
    "a list": ("SIZES = [8, (4, 2)]", "SIZES = [8, (4, 3)]"),
    "a nested dict": ('"gain": 1.5', '"gain": 1.6'),
    "a key": ('GAINS = {"relu"', 'GAINS = {"tanh"'),
    "a helper": ("return double(x)", "return double(x) + 1"),
    "a helper's helper": ("return 2 * x", "return 3 * x"),
    "a function in a dict in a dict": ("def first():\n    return 1", "def first():\n    return 2"),
    "a method of a class": ("return x + 1", "return x + 2"),
    "another library function": ("math.pi", "math.e"),
    "load": ("    return n\n", "    return n + 1\n"),
    "callbacks": ("return [units]", "return [units, 1]"),
    "no callbacks": (", callbacks=callbacks)", ", callbacks=lambda units: [units])"),
    "epochs": ("epochs=3", "epochs=4"),
    "batch_size": ("batch_size=8", "batch_size=16"),
    "a library object behind a name": ("import math\n", "import cmath as math\n"),
}
FRESH = {
    "a comment": ("    # A comment.\n", "    # Another.\n    # And one more.\n"),
    "no comment": ("    # A comment.\n", ""),
    "a comment behind code": ("return 2 * x", "return 2 * x  # twice"),
    "blank lines": ("    add_here = units\n", "\n\n    add_here = units\n\n"),
    "an unrelated global": ("UNRELATED = 1", "UNRELATED = 2"),
    "a new global": ("UNRELATED = 1", "UNRELATED = 1\nrelu = 5\nunits = 6"),
    "an unrelated class": ("return x + 7", "return x + 8"),
    "a global with the name of an attribute": ("add = 1\n", "add = 2\n"),
    "options": ('"units": [2]', '"units": [2, 3]'),
    "seeds": ("seeds=[1]", "seeds=[1, 2]"),
    "a docstring": ('"""Text."""', '"""Another, which is longer."""'),
    "a wrapped line": ("    add_here = units\n", "    add_here = (\n        units\n    )\n"),
    "another kind of quotation marks": ('"gain"', "'gain'"),
    "the order of definitions": (
        "def outer(x):\n    return double(x)\n\n\ndef first():\n    return 1\n",
        "def first():\n    return 1\n\n\ndef outer(x):\n    return double(x)\n",
    ),
}


def test_a_schedule_that_depends_on_the_options_is_part_of_the_digest():
    source = CODE.replace("epochs=3", "epochs=scheduled").replace(
        "def build(", "def scheduled(n):\n    return n\n\n\ndef build(", 1
    )
    given = define(source)["one"].digest
    assert given != digest()
    assert (
        given != define(source.replace("    return n\n\n\ndef build", "    return n + 1\n\n\ndef build"))["one"].digest
    )
    assert (
        given
        == define(source.replace("    return n\n\n\ndef build", "    return n  # as often\n\n\ndef build"))[
            "one"
        ].digest
    )


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_what_decides_the_numbers_changes_the_digest(change):
    assert digest(change) != digest()


@pytest.mark.parametrize("change", FRESH.values(), ids=FRESH)
def test_what_decides_nothing_leaves_the_digest(change):
    assert digest(change) == digest()


# What a helper or a class can also hold: (what is added to the code, how it is then changed).
HIDDEN = {
    "a helper's default": ("RATE = 7\n\n\ndef first(rate=RATE):\n    return rate", "RATE = 7", "RATE = 8"),
    "a class's constant": ("class First:\n    rate = 0.1\n\n\nfirst = First", "rate = 0.1", "rate = 0.2"),
    "a base class": (
        "class Base:\n    def go(self):\n        return 1\n\n\nclass First(Base):\n    pass\n\n\nfirst = First",
        "return 1\n\n\nclass First",
        "return 2\n\n\nclass First",
    ),
    "a property": (
        "class First:\n    @property\n    def go(self):\n        return 1\n\n\nfirst = First",
        "return 1\n\n\nfirst",
        "return 2\n\n\nfirst",
    ),
    "an array": ("first = np.arange(3)", "arange(3)", "arange(4)"),
    "a NumPy number": ("first = np.int64(3)", "int64(3)", "int64(4)"),
    "a set": ("first = {1, 2}", "{1, 2}", "{1, 3}"),
    "a range": ("first = range(7)", "range(7)", "range(8)"),
    "a partial function": ("first = functools.partial(double, 3)", "double, 3", "double, 4"),
    "a function's closure": (
        "def maker(n):\n    def made():\n        return n\n\n    return made\n\n\nfirst = maker(3)",
        "maker(3)",
        "maker(4)",
    ),
    "what a decorated function calls": (
        "def same(f):\n    @functools.wraps(f)\n    def g():\n        return f()\n\n    return g\n\n\n"
        "def last():\n    return 7\n\n\n@same\ndef first():\n    return last()",
        "return 7",
        "return 8",
    ),
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_what_else_decides_the_numbers_changes_the_digest(hidden):
    added, old, new = hidden
    first = ("def first():\n    return 1", added)
    assert digest(first, (old, new)) != digest(first)


def test_another_procedure_of_training_changes_the_digest(monkeypatch):
    before = digest()
    monkeypatch.setattr(_training, "PROCEDURE", _training.PROCEDURE + 1)
    assert digest() != before


def test_functions_that_call_each_other_have_a_digest():
    loop = "def first():\n    return second()\n\n\ndef second():\n    return first()"
    other = loop.replace("return first()", "return first() + 1")
    assert digest(("def first():\n    return 1", loop)) != digest(("def first():\n    return 1", other))


def test_code_without_source_is_refused():
    namespace = {"__name__": "__main__"}
    exec("def build():\n    return 1", namespace)
    with pytest.raises(LabError, match=r"code of build cannot be found.* define it in a cell or a file"):
        study.Study("02.x", namespace["build"], lambda: None, {}, seeds=[1], epochs=1, batch_size=1).digest  # noqa: B018


def test_a_lambda_has_a_digest_or_is_refused_in_one_sentence():
    lambdas = "first = {\n    'one': lambda x: (\n        x + 1\n    ),\n}"
    try:
        before = digest(("def first():\n    return 1", lambdas))
        assert digest(("def first():\n    return 1", lambdas.replace("x + 1", "x + 2"))) != before
    except LabError as refusal:
        assert "\n" not in str(refusal) and "lambda" in str(refusal)


def test_a_dataclass_may_be_used():
    made = "import dataclasses\n\n\n@dataclasses.dataclass\nclass First:\n    n: int = 3\n\n\nfirst = First(3)"
    used = made.replace("First(3)", "First")
    assert digest(("def first():\n    return 1", used))


def test_a_helper_that_is_run_again_with_other_code_makes_runs_stale_at_once():
    namespace = define(CODE)
    before = namespace["one"].digest
    namespace["SIZES"] = [1]
    assert namespace["one"].digest != before


def test_the_digest_is_the_same_in_another_process(tmp_path):
    script = tmp_path / "code.py"
    script.write_text(CODE + "\nprint(one.digest)\n", encoding="utf-8")
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environment)
        assert run.stdout.strip() == digest()
