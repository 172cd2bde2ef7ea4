"""Stress: every claim of a lab under other seeds and on both data sets, with how near it came to being false.

A lab runs again and again in one kernel, its constants SEED and SEEDS shifted from pass to pass; this also shows whether
its memory stays flat. Each pass is one line of JSON in benchmarks/results/claims.jsonl, with a digest of the lab's
code, so that a second call only runs what is missing.

The margin of a claim is quantitative truth (as the robustness of a temporal-logic formula; Fainekos and Pappas, 2009):
for `a > b` it is (a - b) divided by the larger of |a| and |b|, so 0.1 means that a tenth less would make the claim
false; for "and" and "all" the smallest, for "or" and "any" the largest of the parts' margins. A negative margin is a
failure. A comparison of texts or whole objects has no margin: it is a yes or a no.
"""

import ast
import asyncio
import contextlib
import copy
import hashlib
import json
import math
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from labkit import runner
from labkit.errors import LabError

RECORD = runner.ROOT / "benchmarks" / "results" / "claims.jsonl"
PASSES = 10
LOG = "LABKIT_STRESS_LOG"  # the environment variable that tells a kernel where to write what its claims came to
HELPERS = "from labkit import stress as _stress"


# --- margins, computed in the lab's kernel ---


class Margin:
    """Margins of the elements of a comparison: positive where it holds. `&`, `|` and `~` are those of NumPy."""

    def __init__(self, values):
        self.values = np.asarray(values, float)

    def all(self, **_):
        return Margin(self.values.min()) if self.values.size else Margin(math.inf)

    def any(self, **_):
        return Margin(self.values.max()) if self.values.size else Margin(-math.inf)

    def __and__(self, other):
        return Margin(np.minimum(self.values, _margin(other).values))

    def __or__(self, other):
        return Margin(np.maximum(self.values, _margin(other).values))

    def __invert__(self):
        return Margin(-self.values)


def _margin(value):
    """A Margin as it is; a truth value, or an array of them, as an unlimited margin."""
    return value if isinstance(value, Margin) else Margin(np.where(np.asarray(value, bool), math.inf, -math.inf))


def compare(left, *others):
    """The Margin of `left op right op right ...`; others: op, right, op, right, ..."""
    parts = []
    for op, right in zip(others[::2], others[1::2], strict=True):
        parts.append(_compare_two(left, op, right))
        left = right
    return both(*parts)


def _compare_two(left, op, right):
    if op in ("<", "<=", ">", ">="):
        low, high = (np.asarray(side, float) for side in ((left, right) if op[0] == "<" else (right, left)))
        scale = np.maximum(np.maximum(abs(low), abs(high)), np.finfo(float).tiny)
        with np.errstate(invalid="ignore"):
            margin = (high - low) / scale
        return Margin(np.where(np.isnan(margin), -math.inf, margin))
    same = {"==": lambda: left == right, "!=": lambda: left != right, "is": lambda: left is right}
    same |= {"is not": lambda: left is not right, "in": lambda: left in right, "not in": lambda: left not in right}
    return _margin(same[op]())


def both(*parts):
    margins = [_margin(part) for part in parts]
    values = margins[0].values
    for margin in margins[1:]:
        values = np.minimum(values, margin.values)
    return Margin(values)


def either(*parts):
    return ~both(*(~_margin(part) for part in parts))


def every(parts):
    return both(*(_margin(part).all() for part in _parts(parts)), True)


def some(parts):
    return either(*(_margin(part).any() for part in _parts(parts)), False)


def _parts(parts):
    return [parts] if isinstance(parts, Margin) else parts


def close(left, right, rtol=1e-5, atol=1e-8, **_):
    """The Margin of `np.isclose` and `np.allclose`: the share of the tolerance that is left."""
    left, right = np.asarray(left, float), np.asarray(right, float)
    tolerance = atol + rtol * abs(right)
    return Margin((tolerance - abs(left - right)) / np.maximum(tolerance, np.finfo(float).tiny))


def claim(key, sentence, condition, margin):
    """Write down how a claim came out, in place of labkit.claims.claim. condition, margin: functions of nothing."""
    holds = bool(condition())
    try:
        value = float(_margin(margin()).all().values)
    except Exception:  # an expression that the rewriting does not know: then a yes or a no
        value = math.inf if holds else -math.inf
    if (value > 0) != holds and value != 0:  # `sentence` has the last word
        value = math.inf if holds else -math.inf
    line = {"claim": key, "sentence": sentence, "holds": holds}
    _log(line | {"margin": None if math.isinf(value) else float(f"{value:.4g}")})
    print(("✓ " if holds else "✗ ") + sentence)


def end_pass():
    """Write down the kernel's memory in MB: its peak since the last pass, and what it holds after a collection."""
    import gc

    import psutil

    gc.collect()
    memory = psutil.Process().memory_info()
    peak = held = memory.rss
    with contextlib.suppress(OSError, StopIteration):  # Linux only
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    _log({"peak_mb": round(peak / 1e6), "held_mb": round(held / 1e6)})


def _log(line):
    with open(os.environ[LOG], "a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


# --- a lab's code, rewritten ---

_OPS = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!=", "Is": "is", "IsNot": "is not"}
_OPS |= {"In": "in", "NotIn": "not in"}


class _Claims(ast.NodeTransformer):
    """Gives each call of `claim` a key, and its condition as two functions: of its truth and of its margin."""

    def __init__(self, cell_id):
        self.cell_id, self.number = cell_id, 0

    def visit_Call(self, node):
        self.generic_visit(node)
        if getattr(node.func, "id", None) != "claim":
            return node
        self.number += 1
        sentence, condition = node.args
        margin = _graded(copy.deepcopy(condition))
        arguments = [ast.Constant(f"{self.cell_id}/{self.number}"), sentence, _function(condition), _function(margin)]
        return _call("claim", *arguments)


def _function(body):
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.Lambda(nothing, body)


def _call(name, *arguments, keywords=()):
    return ast.Call(ast.Attribute(ast.Name("_stress", ast.Load()), name, ast.Load()), list(arguments), list(keywords))


def _graded(node):
    """The expression of a condition's Margin. What it does not know stays as it is, and counts as a yes or a no."""
    if isinstance(node, ast.Compare):
        others = [part for op, right in zip(node.ops, node.comparators, strict=True) for part in (_op(op), right)]
        return _call("compare", node.left, *others)
    if isinstance(node, ast.BoolOp):
        return _call("both" if isinstance(node.op, ast.And) else "either", *map(_graded, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        return ast.UnaryOp(ast.Invert(), _call("both", _graded(node.operand)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
        return _call("both" if isinstance(node.op, ast.BitAnd) else "either", _graded(node.left), _graded(node.right))
    return _graded_call(node) if isinstance(node, ast.Call) else node


def _graded_call(node):
    name = ast.unparse(node.func)
    if name == "bool":
        return _graded(node.args[0])
    if name in ("all", "any", "np.all", "np.any") and len(node.args) == 1:
        (inner,) = node.args
        if isinstance(inner, (ast.GeneratorExp, ast.ListComp)):
            inner.elt = _graded(inner.elt)
        else:
            inner = _graded(inner)
        return _call("every" if name.endswith("all") else "some", inner)
    if name in ("np.isclose", "np.allclose"):
        return _call("close", *node.args, keywords=node.keywords)
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("all", "any") and not node.args:
        return _call("every" if node.func.attr == "all" else "some", _call("both", _graded(node.func.value)))
    return node


def _op(op):
    return ast.Constant(_OPS[type(op).__name__])


def rewritten(source, cell_id, shift):
    """A cell's source with SEED and SEEDS shifted, and its claims written down instead of raised."""
    source = re.sub(
        r"^(SEEDS? = )(\d+|\([\d, ]+\))", lambda found: found[1] + _moved(found[2], shift), source, flags=re.M
    )
    if not re.search(r"\bclaim\(", source):
        return source  # as it stands: the digest of a study is one of its source
    tree = _Claims(cell_id).visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(tree))


def _moved(written, shift):
    """A seed, or a tuple of them, moved on so far that no two passes share one."""
    seeds = ast.literal_eval(written)
    return repr(seeds + shift if isinstance(seeds, int) else tuple(seed + shift * len(seeds) for seed in seeds))


# --- passes ---


def digest(path):
    """A digest of a lab's code, comments and layout aside: a recorded pass counts as long as it is the same."""
    code = [ast.dump(ast.parse(re.sub(r"^( *)%.*", r"\1pass", cell.source, flags=re.M))) for cell in _code(path)]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]


def _code(path):
    import nbformat

    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def read():
    """The recorded passes that are of today's labs, as a list of dicts."""
    if not RECORD.exists():
        return []
    today = {path.stem: digest(path) for path in runner.find_labs()}
    lines = [json.loads(line) for line in RECORD.read_text("utf-8").splitlines()]
    return [line for line in lines if today.get(line["lab"]) == line["code"]]


def run(paths, datasets, passes=PASSES, jobs=1, report=print):
    """Run the passes that are missing, a kernel per lab and data set; each is written down as it ends.

    datasets: values of LABKIT_DATA; "digits" is the stand-in, anything else leads to MNIST.
    report: called with each line of the record as soon as it is there.
    """
    with asyncio.Runner() as loop:
        return loop.run(_run_all(paths, datasets, passes, jobs, report))


async def _run_all(paths, datasets, passes, jobs, report):
    places = asyncio.Semaphore(jobs)

    async def one(path, dataset):
        name = "digits" if dataset == "digits" else "MNIST"
        there = {line["shift"] for line in read() if (line["lab"], line["data"]) == (path.stem, name)}
        missing = [shift for shift in range(passes) if shift not in there]
        async with places:
            if missing:
                await _run_lab(path, name, dataset, missing, 1 if jobs > 1 else None, report)

    async with asyncio.TaskGroup() as group:
        for dataset in datasets:
            for path in paths:
                group.create_task(one(path, dataset))


async def _run_lab(path, data_name, dataset, shifts, threads, report):
    import nbclient
    import nbformat
    from nbformat.v4 import new_code_cell

    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code = digest(path)
    notebook.cells = []
    for shift in shifts:
        notebook.cells.append(new_code_cell(HELPERS))
        for cell in cells:
            cell = new_code_cell(rewritten(cell.source, cell.id, shift), id=f"{cell.id}_{shift}"[-64:])  # noqa: PLW2901
            notebook.cells.append(cell)
        notebook.cells.append(new_code_cell("_stress.end_pass()"))
    now = {"start": time.perf_counter(), "failure": None, "shifts": list(shifts)}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        environment = os.environ | runner.kernel_settings(threads) | {LOG: str(log)}
        environment["LABKIT_DATA"] = dataset

        def executed(cell, cell_index, execute_reply):
            if execute_reply["content"]["status"] == "error" and not now["failure"]:
                content = execute_reply["content"]
                now["failure"] = f"cell {cell.id}: {content['ename']}: {content['evalue'].splitlines()[:1]}"
            if cell.source == "_stress.end_pass()":
                _end(path.stem, data_name, code, now, log, report)

        client = nbclient.NotebookClient(
            notebook,
            km=runner._kernel_manager(),
            timeout=None,  # a machine that is busy with other things is no failure
            allow_errors=True,
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            shutdown_kernel="immediate",
            on_cell_executed=executed,
        )
        await client.async_execute(env=environment, stderr=subprocess.DEVNULL, cleanup_kc=True)


def _end(lab, data_name, code, now, log, report):
    """Write down the pass that has just ended, and begin the next."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    claims = {}
    for line in lines:
        if "claim" in line:  # a call in a loop counts once, with its worst outcome
            new = {"holds": line["holds"], "margin": line["margin"], "sentence": line["sentence"]}
            old = claims.get(line["claim"], new)
            claims[line["claim"]] = min(
                old, new, key=lambda c: (c["holds"], math.inf if c["margin"] is None else c["margin"])
            )
    memory = next((line for line in lines if "peak_mb" in line), {"peak_mb": None, "held_mb": None})
    ended = time.perf_counter()
    line = {"lab": lab, "data": data_name, "shift": now["shifts"].pop(0), "code": code, "failure": now["failure"]}
    line |= {"seconds": round(ended - now["start"], 1), **memory, "claims": claims}
    now |= {"start": ended, "failure": None}
    RECORD.parent.mkdir(exist_ok=True)
    with RECORD.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    report(line)
