"""Measures what students and authors wait for, and writes it into benchmarks/README.md.

    labs bench                 all parts: about half an hour
    labs bench imports labs    only these parts

Where two ways are compared, they take turns, and the ratio of their times is what counts: a machine's speed drifts, and
yours is another. Keep the machine quiet meanwhile.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import venv
from importlib import metadata
from pathlib import Path

import psutil

from labkit import _files, data
from labtools import project, run

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
RESULTS = HERE / "results"
PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "numpy")


def imports():
    """Seconds that each import adds, beyond NumPy's own."""
    timed = "import numpy, time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    statements = {
        "`import labkit`": "import labkit",
        "what a lab without Keras imports": "from labkit import session; session.start(1, keras=False)",
        "what a lab with Keras imports": "from labkit import session; session.start(1)",
        "`import keras` alone": "import keras",
    }
    seconds = {name: [] for name in statements}
    for _ in range(5):
        for name, statement in statements.items():
            seconds[name].append(printed(timed.format(statement)))
    return [
        {"import": name, "seconds, median of 5": median(each), "least": min(each), "most": max(each)}
        for name, each in seconds.items()
    ]


def setup():
    """Seconds of setting up from nothing: the lock by uv, and by pip, in turn."""
    (uv,) = (line for line in (project.ROOT / "labs.py").read_text("utf-8").splitlines() if line.startswith("UV = "))
    uv = uv.split('"')[1]
    rows = []
    for turn in range(2):
        for way in ("uv", "pip") if turn % 2 == 0 else ("pip", "uv"):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                venv.create(folder, with_pip=True)
                python = str(Path(folder, "Scripts" if os.name == "nt" else "bin", "python"))
                pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
                if way == "uv":
                    subprocess.run([*pip, uv], check=True)
                    pip = [python, "-m", "uv", "pip", "install", "--quiet", "--no-cache", "--python", python]
                subprocess.run([*pip, "-r", str(project.ROOT / "requirements.txt")], check=True)
                rows.append({"way": way, "seconds": time.perf_counter() - start})
    of = {way: median([row["seconds"] for row in rows if row["way"] == way]) for way in ("uv", "pip")}
    return [{"set-up by uv, seconds": of["uv"], "by pip, seconds": of["pip"], "ratio": of["pip"] / of["uv"]}]


def jupyterlab():
    """Seconds from a fresh clone to JupyterLab that answers."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "course")
        subprocess.run(["git", "clone", "--quiet", str(project.ROOT), str(clone)], check=True)
        settings = ["--no-browser", "--ServerApp.token=", "--port=8871", "--allow-root"]
        start = time.perf_counter()
        command = [sys.executable, str(clone / "labs.py"), "open", *settings]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                answer = subprocess.run(
                    [sys.executable, "-c", "import urllib.request as u; u.urlopen('http://localhost:8871/lab')"],
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
            finally:
                seconds = time.perf_counter() - start
            if answer.returncode == 0:
                break
            if seconds > 600:
                raise SystemExit("JupyterLab did not answer within ten minutes.")
            time.sleep(0.2)
        for process in (*psutil.Process(server.pid).children(recursive=True), server):
            process.kill()
        server.wait()
    return [{"fresh clone to JupyterLab, seconds": seconds}]


def labs():
    """Seconds and peak memory of each lab: alone with a thread per core, then with one thread, a lab per core."""
    need_mnist()
    cores, rows = os.cpu_count() or 1, {}
    for threads, jobs in ((cores, 1), (1, cores)):
        for result in run.run(project.find_labs(), jobs, threads, report=lambda r: print(r.name, r.seconds, r.peak_mb)):
            if result.failure:
                raise SystemExit(f"{result.name}: {result.failure}")
            row = rows.setdefault(result.name, {"lab": result.name[:2]})
            way = f"{threads} thread{'s' * (threads > 1)}, {jobs} lab{'s' * (jobs > 1)} at once"
            row |= {f"seconds, {way}": result.seconds, f"peak MB, {way}": result.peak_mb}
    return list(rows.values())


def study():
    """Lab 02's nine networks, one seed: a study against a plain loop of `fit`."""
    need_mnist()
    plain = """
        import keras
        for chosen, seed in part.grid():
            keras.utils.set_random_seed(seed)
            mnist = load(chosen["n_train"])
            model = build(chosen["hidden"], chosen["method"])
            validation = (mnist.x_valid, mnist.y_valid)
            model.fit(mnist.x_train, mnist.y_train, validation_data=validation, verbose=0, **schedule)
            for x, y in ((mnist.x_train, mnist.y_train), validation, (mnist.x_test, mnist.y_test)):
                model.evaluate(x, y, verbose=0)
    """
    rows = []
    for _ in range(2):
        slow, ours = printed(_study_code(plain)), printed(_study_code("part.record()"))
        rows.append({"plain loop, seconds": slow, "study, seconds": ours, "ratio": slow / ours})
    return rows


def _study_code(timed):
    """Code that trains lab 02's nine networks, one seed, by these lines, and prints how many seconds they took."""
    return f"""
import tempfile, time
from labkit import study
from labtools import project, studies
if __name__ == "__main__":
    whole = next(s for s in studies.of_notebook(*project.find_labs(["02"])) if s.name == "02.nine")
    schedule = {{"epochs": whole.epochs, "batch_size": whole.batch_size}}
    build, load = whole.functions["build"], whole.functions["load"]
    with tempfile.TemporaryDirectory() as where:
        part = study.Study("00.bench", build, load, whole.options, seeds=[1], where=where, **schedule)
        start = time.perf_counter()
{textwrap.indent(textwrap.dedent(timed).strip(), 8 * " ")}
    print(time.perf_counter() - start)
"""


def steps():
    """One epoch of three of the labs' networks: plain Keras against 64 steps per call, and with XLA besides."""
    need_mnist()
    return [json.loads(printed(STEPS_CODE.replace("ROW", row), str)) for row in ("A1", "D3", "B1")]


STEPS_CODE = """
import json, statistics, time
from labkit import session
from labtools import project, studies
session.start(1)
short = next(one for one in studies.of_notebook(*project.find_labs(["90"])) if one.name == "90.short")
data = short.functions["load"]("ROW")
n = 6400
ways = {"plain": {}, "64 steps": {"steps_per_execution": 64}, "64 steps, XLA": {"steps_per_execution": 64,
        "jit_compile": True}}
models, seconds = {}, {way: [] for way in ways}
def epoch(way):
    start = time.perf_counter()
    models[way].fit(data.x_train[:n], data.y_train[:n], batch_size=short.functions["batch_size"]("ROW"), verbose=0)
    return time.perf_counter() - start
for way, settings in ways.items():
    models[way] = short.functions["build"]("ROW")
    for name, value in settings.items():
        setattr(models[way], name, value)
    epoch(way)
for _ in range(7):
    for way in ways:
        seconds[way].append(epoch(way))
row = {"row of lab 90": "ROW", "plain, seconds": statistics.median(seconds["plain"])}
for way in list(ways)[1:]:
    row[f"{way}, times as fast"] = statistics.median(a / b for a, b in zip(seconds["plain"], seconds[way]))
print(json.dumps(row))
"""


def tests():
    """Seconds of the test commands."""
    rows = []
    for name, options in (("labs test", []), ('labs test -m "not slow" tests', ["-m", "not slow", "tests"])):
        start = time.perf_counter()
        command = [sys.executable, "-m", "labtools.cli", "test", "-q", *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=project.ROOT, check=False)
        last = done.stdout.strip().splitlines()[-1].strip("= ")
        rows.append({"command": f"`{name}`", "seconds": time.perf_counter() - start, "said": last})
    return rows


PARTS = {each.__name__: each for each in (imports, setup, jupyterlab, labs, study, steps, tests)}


def printed(code, kind=float):
    """Run Python code in a fresh process; return the last line that it prints."""
    environment = os.environ | {"MPLBACKEND": "agg"}
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as script:
        script.write(code)
    try:
        done = subprocess.run(
            [sys.executable, script.name],
            capture_output=True,
            text=True,
            env=environment,
            cwd=project.ROOT,
            check=False,
        )
    finally:
        os.unlink(script.name)
    if done.returncode:
        raise SystemExit(f"A measurement stopped with an error:\n{done.stderr[-2000:]}")
    return kind(done.stdout.splitlines()[-1])


def median(values):
    return statistics.median(values)


def need_mnist():
    if not data.has_mnist():
        raise SystemExit("This is measured on MNIST, which is not here: see `labs data`.")


def circumstances():
    """Machine, versions and the course's commit, in one line."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else name
    memory = psutil.virtual_memory().total / 2**30
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    git = shutil.which("git")
    command = [git or "git", "-C", str(project.ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() if git else "unknown"
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}; {', '.join(versions)}; at {commit}"


def shown(rows):
    """A Markdown table of a list of dicts with the same keys."""
    texts = [[f"{v:.3g}" if isinstance(v, float) and v < 100 else f"{v:.0f}" if isinstance(v, float) else str(v)
              for v in row.values()] for row in rows]  # fmt: skip
    lines = [list(rows[0]), ["---:" if re.match(r"[\d.]+$", text) else "---" for text in texts[0]], *texts]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report():
    """Write what has been measured into README.md."""
    text = README.read_text("utf-8")
    for name in PARTS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
            block = f"<!-- {name} -->\n{shown(kept['rows'])}\n\n*{kept['where']}.*\n<!-- end of {name} -->"
            text = re.sub(f"<!-- {name} -->.*?<!-- end of {name} -->", lambda _, b=block: b, text, flags=re.DOTALL)
    _files.replace(README, text)


def main():
    parser = argparse.ArgumentParser(prog="labs bench", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all by default")
    chosen = parser.parse_args().parts
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    project.fix_data_path()
    RESULTS.mkdir(exist_ok=True)
    for name in chosen or PARTS:
        print(PARTS[name].__doc__, flush=True)
        rows = PARTS[name]()
        print(shown(rows), flush=True)
        kept = json.dumps({"where": circumstances(), "rows": rows}, indent=1) + "\n"
        _files.replace(RESULTS / f"{name}.json", kept)
        report()


if __name__ == "__main__":
    main()
