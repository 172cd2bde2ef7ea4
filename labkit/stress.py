"""Stress: every claim of a lab under other seeds and on both data sets, with how near it came to being false.

A lab runs again and again in one kernel, its constants SEED and SEEDS moved on from pass to pass; this also shows
whether its memory stays flat. Each pass is one line of JSON in benchmarks/results/claims.jsonl, with a digest of the
lab's code, so that a second call only runs what is missing.

The margin of a claim is quantitative truth (as the robustness of a temporal-logic formula; Fainekos and Pappas, 2009):
for `a > b` it is (a - b) divided by the larger of |a| and |b|, so 0.1 means that a tenth less would make the claim
false; for "and" and "all" the smallest, for "or" and "any" the largest of the parts' margins. A negative margin is a
failure. A comparison of texts or whole objects has no margin: it is a yes or a no. Against 0 the margin is 1 whatever
the size, because only the sign counts there.
"""

import ast
import asyncio
import contextlib
import copy
import hashlib
import itertools
import json
import math
import os
import re
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

from labkit import runner

RECORD = runner.ROOT / "benchmarks" / "results" / "claims.jsonl"
PASSES = 10
LOG = "LABKIT_STRESS_LOG"  # the environment variable that tells a kernel where to write what its claims came to
HELPERS = "from labkit import stress as _stress"
LAST = ("_stress.end_pass()", "end of pass")  # source and name of the cell after a pass


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
    kernel = psutil.Process()
    peak, held = runner.peak_memory(kernel), kernel.memory_info().rss
    with contextlib.suppress(OSError):  # Linux only
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
        self.sentences = {}  # by key, those that are not put together when the cell runs

    def visit_Call(self, node):
        self.generic_visit(node)
        if not _is_claim(node):
            return node
        self.number += 1
        sentence, condition = node.args
        margin = _graded(copy.deepcopy(condition))
        key = f"{self.cell_id}/{self.number}"
        if isinstance(sentence, ast.Constant):
            self.sentences[key] = sentence.value
        arguments = [ast.Constant(key), sentence, _function(condition), _function(margin)]
        return _call("claim", *arguments)


def _is_claim(node):
    return isinstance(node, ast.Call) and getattr(node.func, "id", None) == "claim"


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
        elif isinstance(inner, (ast.List, ast.Tuple)):
            inner.elts = list(map(_graded, inner.elts))
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
    seeds = re.compile(r"^(SEEDS? = )(\d+|\([\d, ]+\))", re.MULTILINE)
    source = seeds.sub(lambda found: found[1] + _moved(found[2], shift), source)
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
    """A digest of a lab's code: a recorded pass counts as long as it is the same.

    Comments, layout, and the wording of claims are left aside.
    """
    return hashlib.sha256(repr(_tree(_parsed(path))).encode()).hexdigest()[:16]


def _parsed(path):
    """A syntax tree for each code cell of a lab."""
    return [ast.parse(re.sub(r"^( *)%.*", r"\1pass", cell.source, flags=re.M)) for cell in _code(path)]


def _tree(node):
    """A syntax tree as nested lists. `ast.dump` will not do: newer Pythons have more fields, all empty here."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12.1 has empty texts in there
        return [_tree(part) for part in node.values if getattr(part, "value", None) != ""]
    if _is_claim(node):
        return ["claim", *map(_tree, node.args[1:])]
    if isinstance(node, list):
        return [_tree(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [[name, _tree(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *fields]


def _code(path):
    import nbformat

    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def read():
    """The recorded passes that are of today's labs, as a list of dicts, the last of each; torn lines are left out.

    Claims are in today's words.
    """
    if not RECORD.exists():
        return []
    labs = {path.stem: path for path in runner.find_labs()}
    today, found = {lab: digest(path) for lab, path in labs.items()}, {}
    for text in RECORD.read_text("utf-8").splitlines():
        with contextlib.suppress(ValueError):  # cut off when its writer was killed
            line = json.loads(text)
            if today.get(line["lab"]) == line["code"]:
                found[line["lab"], line["data"], line["shift"]] = line
    words = {lab: _sentences(labs[lab]) for lab in {line["lab"] for line in found.values()}}
    for line in found.values():
        for key, claim in line["claims"].items():
            claim["sentence"] = words[line["lab"]].get(key, claim["sentence"])
    return list(found.values())


def _sentences(path):
    """The sentences of a lab's claims, by key; without those that are put together when a cell runs."""
    found = {}
    for cell, tree in zip(_code(path), _parsed(path), strict=True):
        claims = _Claims(cell.id)
        claims.visit(tree)
        found |= claims.sentences
    return found


def run(paths, datasets, passes=PASSES, jobs=1, report=print, *, again=False):
    """Run the passes that are missing, a kernel per lab and data set; each is written down as it ends.

    datasets: values of LABKIT_DATA; "digits" is the stand-in, anything else leads to MNIST.
    report: called with each line of the record as soon as it is there.
    again: run all passes, whether they are missing or not, so that one kernel's memory is known from first to last.
    """
    kept = [] if again else read()
    recorded = {(line["lab"], line["data"], line["shift"]) for line in kept if not line["failure"]}
    todo = []
    for dataset in datasets:
        for path in paths:
            missing = [shift for shift in range(passes) if (path.stem, _name(dataset), shift) not in recorded]
            todo += [(path, dataset, missing)] if missing else []
    with asyncio.Runner(loop_factory=runner.Loop) as loop:
        loop.run(_run_all(todo, jobs, report))


async def _run_all(todo, jobs, report):
    places = asyncio.Semaphore(jobs)

    async def one(path, dataset, shifts):
        async with places:
            await _run_lab(path, dataset, shifts, 1 if jobs > 1 else None, report)

    async with asyncio.TaskGroup() as group:
        for each in todo:
            group.create_task(one(*each))


def _name(dataset):
    return "digits" if dataset == "digits" else "MNIST"


async def _run_lab(path, dataset, shifts, threads, report):
    import nbclient
    import nbformat
    from nbclient.exceptions import DeadKernelError
    from nbformat.v4 import new_code_cell

    notebook = nbformat.read(path, as_version=4)
    cells, notebook.cells = _code(path), []
    for shift in shifts:
        sources = [(HELPERS, "helpers"), *((rewritten(cell.source, cell.id, shift), cell.id) for cell in cells), LAST]
        notebook.cells += [new_code_cell(text, metadata={"labkit": {"cell": name}}) for text, name in sources]
    line = {"lab": path.stem, "data": _name(dataset), "code": digest(path), "failure": None}
    line["kernel"] = uuid.uuid4().hex[:8]  # passes of one kernel share it: only their memory can be compared
    remaining, start = list(shifts), [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        environment = os.environ | runner.kernel_settings(threads) | {LOG: str(log), "LABKIT_DATA": dataset}

        def executed(cell, cell_index, execute_reply):
            name, reply = cell.metadata["labkit"]["cell"], execute_reply["content"]
            if reply["status"] == "error" and not line["failure"]:
                line["failure"] = f"cell {name}: {reply['ename']}: {reply['evalue'].partition(chr(10))[0]}"
            if name == LAST[1]:
                ended = time.perf_counter()
                _write(line | {"shift": remaining.pop(0), "seconds": round(ended - start[0], 1)}, log, report)
                start[0], line["failure"] = ended, None

        client = nbclient.NotebookClient(
            notebook,
            km=runner.kernel_manager(),
            timeout=None,  # a machine that is busy with other things is no failure
            allow_errors=True,
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            shutdown_kernel="immediate",
            on_cell_executed=executed,
        )
        try:
            await client.async_execute(env=environment, stderr=subprocess.DEVNULL, cleanup_kc=True)
        except (DeadKernelError, RuntimeError) as error:
            if asyncio.current_task().cancelling():  # Ctrl-C
                raise asyncio.CancelledError from None
            failure = f"the kernel died or did not start ({error}), most likely because the memory ran out"
            seconds = round(time.perf_counter() - start[0], 1)
            _write(line | {"shift": remaining[0], "seconds": seconds, "failure": failure}, log, report)


def _write(line, log, report):
    """Append a pass that has just ended to the record, with what its claims wrote into the log."""
    written = [json.loads(text) for text in log.read_text("utf-8").splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    claims, memory = {}, {"peak_mb": None, "held_mb": None}
    for one in written:
        if "claim" not in one:
            memory = one
            continue
        new = {"holds": one["holds"], "margin": one["margin"], "sentence": one["sentence"]}
        # A claim in a loop counts once, with its worst outcome.
        claims[one["claim"]] = min(claims.get(one["claim"], new), new, key=_order)
    line = line | memory | {"claims": claims}
    RECORD.parent.mkdir(exist_ok=True)
    torn = RECORD.exists() and not RECORD.read_bytes().endswith(b"\n")
    with RECORD.open("a", encoding="utf-8", newline="\n") as file:
        file.write("\n" * torn + json.dumps(line, ensure_ascii=False) + "\n")
    report(line)


def _order(claim):
    return claim["holds"], math.inf if claim["margin"] is None else claim["margin"]


# --- what came of it ---


def _grouped(lines):
    """The passes of each lab and data set, in their order: {(lab, data): lines}."""
    found = {}
    for line in sorted(lines, key=lambda line: (line["lab"], line["data"] != "MNIST", line["shift"])):
        found.setdefault((line["lab"], line["data"]), []).append(line)
    return found


def by_claim(lines):
    """One dict a claim, in the order of the labs: how often it was tried and failed, and its smallest margin.

    varied: whether the margin differed between passes on the same data set. Claims about recorded studies, counts and
    tolerances of exact results do not depend on the seed.
    """
    found, first = {}, {}
    for line in itertools.chain(*_grouped(lines).values()):
        for key, claim in line["claims"].items():
            new = {"lab": line["lab"][:2], "claim": key, "sentence": claim["sentence"], "runs": 0, "failed": 0}
            new |= {"varied": False, "margin": None, "where": ""}
            one = found.setdefault((line["lab"], key), new)
            before = first.setdefault((line["lab"], line["data"], key), claim["margin"])
            one["varied"] |= claim["margin"] != before
            one["runs"] += 1
            one["failed"] += not claim["holds"]
            if not claim["holds"] and not one["where"]:
                one["where"] = f"{line['data']}, pass {line['shift'] + 1}"
            if claim["margin"] is not None and (one["margin"] is None or claim["margin"] < one["margin"]):
                where = f"{line['data']}, pass {line['shift'] + 1}"
                one |= {"margin": claim["margin"], "where": where, "sentence": claim["sentence"]}
    return list(found.values())


def by_lab(lines):
    """One dict a lab and data set: passes, claims, failures and the smallest margin."""
    rows = []
    for (lab, data), passes in _grouped(lines).items():
        claims = by_claim(passes)
        margins = [one["margin"] for one in claims if one["margin"] is not None]
        failed = sum(one["failed"] for one in claims) + sum(bool(line["failure"]) for line in passes)
        row = {"lab": lab[:2], "data": data, "passes": len(passes), "claims": len(claims)}
        row |= {"varied": sum(one["varied"] for one in claims), "failed": failed}
        rows.append(row | {"margin": min(margins, default=None)})
    return rows


def by_kernel(lines):
    """One dict for each lab and data set of which one kernel ran all passes: its memory in MB.

    Each has the peak of the first pass, the highest of the later ones, and what was held after the first, the middle
    and the last.
    """
    rows = []
    for (lab, data), passes in _grouped(lines).items():
        kernels = {line.get("kernel") for line in passes}
        if len(passes) != PASSES or len(kernels) != 1 or None in kernels:
            continue
        peaks, held = ([line[name] for line in passes] for name in ("peak_mb", "held_mb"))
        if None not in (*peaks, *held):
            row = {"lab": lab[:2], "data": data, "peak, first": peaks[0], "peak, later": max(peaks[1:])}
            rows.append(row | {"held, first": held[0], "held, middle": held[PASSES // 2 - 1], "held, last": held[-1]})
    return rows


def table(rows):
    """A PrettyTable of rows as `by_claim`, `by_lab` and `by_kernel` give them."""
    from prettytable import PrettyTable

    names = list(rows[0]) if rows else ["lab"]
    shown = PrettyTable([name.replace("_", " ") for name in names], align="l", max_width=70)
    shown.add_rows([[_cell(row[name]) for name in names] for row in rows])
    return shown


def _cell(value):
    if value is None:
        return "yes or no"
    return f"{value:.4g}" if type(value) is float else value
