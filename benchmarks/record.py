"""What every benchmark shares: rows are kept as JSON, with the machine and versions that made them, and shown."""

import datetime
import hashlib
import inspect
import json
import os
import platform
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "results"
PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "torch")


def write(part, rows, *made_by):
    """Keep `rows`, a list of flat dicts with the same keys, as benchmarks/results/PART.json.

    made_by: the functions that measured them; their code is digested, so that a later reader can tell whether the
    numbers are today's code's.
    """
    FOLDER.mkdir(exist_ok=True)
    kept = {"machine": machine(), "versions": versions(), "date": datetime.date.today().isoformat()}
    kept |= {"code": digest(*made_by), "rows": rows}
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    path = FOLDER / f"{part}.json"
    part_file = path.with_suffix(".part")
    part_file.write_text(text, encoding="utf-8")
    os.replace(part_file, path)


def read(part):
    """What `write` kept, as a dict; None if this part was never measured."""
    path = FOLDER / f"{part}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def digest(*functions):
    """A short digest of these functions' source."""
    return hashlib.sha256("".join(map(inspect.getsource, functions)).encode()).hexdigest()[:16]


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
