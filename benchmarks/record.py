"""What every benchmark shares: rows are kept as JSON, with the machine and versions that made them, and shown."""

import ast
import datetime
import functools
import hashlib
import importlib
import inspect
import json
import os
import platform
from importlib import metadata
from pathlib import Path

from labkit import runner, stress

FOLDER = Path(__file__).resolve().parent / "results"
MEASURED = ("labkit",)  # what every benchmark runs
PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "torch")


def write(part, rows, *made_by, among=None):
    """Keep `rows`, a list of flat dicts with the same keys, as benchmarks/results/PART.json.

    made_by: the functions, classes or modules that measured them; digests of their code are kept, so that `changed`
    can tell whether the numbers are today's code's.
    among: what `read` returned before, if some of these rows are from there and not new. Where those were measured by
    other code, the digest says so, and `changed` does.
    """
    FOLDER.mkdir(exist_ok=True)
    kept = {"machine": machine(), "versions": versions(), "date": datetime.date.today().isoformat()}
    code = {_name(one): digest(one) for one in made_by}
    if among:
        code = {name: now if among["code"].get(name) == now else "of several" for name, now in code.items()}
    measured = {name: digest_of_package(name) for name in MEASURED}
    if among:
        measured = {
            name: now if among.get("measured", {}).get(name) == now else "of several" for name, now in measured.items()
        }
    kept |= {"code": code, "measured": measured, "rows": rows}
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    path = FOLDER / f"{part}.json"
    part_file = path.with_suffix(".part")
    part_file.write_text(text, encoding="utf-8")
    os.replace(part_file, path)


def read(part):
    """What `write` kept, as a dict; None if this part was never measured."""
    path = FOLDER / f"{part}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


@functools.cache
def digest(one):
    """A short digest of the code of a function, a class or a module: as it was when this was first asked for.

    What runs for long asks at its start: its source may be edited meanwhile.
    """
    return hashlib.sha256(inspect.getsource(one).encode()).hexdigest()[:16]


def _name(one):
    """Where to find it again, as "file" or "file.function"; a file that was run is not called __main__ here."""
    file = Path(inspect.getsourcefile(one)).stem
    return file if inspect.ismodule(one) else f"{file}.{one.__qualname__}"


@functools.cache
def digest_of_package(name):
    """A short digest of what a package does: of its modules' code, without comments and layout."""
    folder = Path(importlib.import_module(name).__file__).parent
    trees = [ast.dump(ast.parse(path.read_bytes())) for path in sorted(folder.rglob("*.py"))]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()[:16]


def changed(kept):
    """Names of what is not the same today: of the code that measured these rows, and of the code that was measured.

    kept: what `read` returned.
    """
    measured = kept.get("measured", {})
    ruler = [name for name, was in kept["code"].items() if _digest_today(name) != was]
    return ruler + [name for name in MEASURED if measured.get(name) != digest_of_package(name)]


def said_changed(kept):
    """A sentence, after a space, that names what `changed` finds; nothing if that is nothing."""
    names = ", ".join(f"`{name}`" for name in changed(kept))
    return f" *Measured before {names} changed.*" if names else ""


def said_labs(digests):
    """A sentence, after a space, that names the labs whose code has changed; nothing if that is none.

    digests: number of a lab, such as "01", -> `stress.digest` of its code when it was measured; None: not kept.
    """
    today = {path.stem[:2]: stress.digest(path) for path in runner.find_labs()}
    names = ", ".join(sorted(lab for lab, was in digests.items() if was != today.get(lab)))
    return f" *Measured before these labs' code changed: {names}.*" if names else ""


def _digest_today(name):
    file, _, function = name.partition(".")
    try:
        module = importlib.import_module(file)
    except ModuleNotFoundError:
        return None
    found = getattr(module, function, None) if function else module
    return None if found is None else digest(found)


def machine():
    """Processor, cores and memory, in words."""
    import psutil

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GB, {platform.system()}"


def versions():
    """Python's version, and those of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def table(head, rows):
    """A Markdown table; columns whose every cell starts with a digit or a sign stand to the right."""
    numeric = [all(str(row[i])[:1] in "0123456789−-+–" for row in rows) for i in range(len(head))]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, rule, *rows))


def show(rows):
    """Print a list of flat dicts with the same keys as a table."""
    from prettytable import PrettyTable

    if rows:
        shown = PrettyTable(list(rows[0]), align="l", max_width=60, float_format=".3")
        shown.add_rows([[row.get(name, "") for name in rows[0]] for row in rows])
        print(shown)
