"""The house: imports run one way, and nobody reaches into the insides of other people's packages."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labtools.project import ROOT, find_labs

FILES = sorted([*ROOT.glob("labkit/**/*.py"), *ROOT.glob("labtools/*.py")])
OURS = {"labkit", "labtools"}


def test_imports_run_one_way():
    command = Path(sys.executable).with_name("lint-imports" + (".exe" if os.name == "nt" else ""))
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def imported(tree):
    """Each module that a tree imports, with the names that it takes from it: [(module, [names])]."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names]


def test_notebooks_import_labkit_and_nothing_else_of_ours():
    for path in find_labs():
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith("%")]
                for line in lines:
                    assert "labtools" not in line and "benchmarks" not in line, (path.name, cell.id)


def test_importing_labkit_does_not_import_tensorflow():
    code = "import sys, labkit, labkit.session, labkit.study, labkit.exercises; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def reached_into(source):
    """The places where a source takes a private name of, or writes into, what it has imported from elsewhere."""
    tree = ast.parse(source)
    foreign, own = set(), {"self", "cls"}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
            for alias in node.names:
                if (alias.name if isinstance(node, ast.Import) else module).partition(".")[0] in OURS:
                    own.add(alias.asname or alias.name)
                else:
                    foreign.add((alias.asname or alias.name).partition(".")[0])
                    if any(map(is_private, [*module.split("."), *alias.name.split(".")])):
                        yield f"line {node.lineno}: imports {module} {alias.name}"
    for node in ast.walk(tree):
        private = isinstance(node, ast.Attribute) and is_private(node.attr) and root(node) not in own
        if private and ast.unparse(node) != "os._exit":  # which is documented
            yield f"line {node.lineno}: .{node.attr}"
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)) and root(node) in foreign:
            yield f"line {node.lineno}: writes {node.attr}"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr" and root(node.args[0]) in foreign:
            yield f"line {node.lineno}: setattr"


def root(node):
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return getattr(node, "id", "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_name_of_another_package_is_used_or_written(path):
    assert list(reached_into(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("source", [
    "import keras\nkeras.backend.floatx = 1", "from tensorflow.python.framework import _ops", "import keras._src",
    "import keras\nkeras._x()", "import keras\nsetattr(keras.layers.Dense, 'call', 1)", "model.layers[0]._graph",
])  # fmt: skip
def test_the_rule_finds_what_it_forbids(source):
    assert list(reached_into(source))
