"""Measures what students wait for: imports, training, whole labs and the whole test.

    labs bench                 imports, training, growth and labs: about an hour
    labs bench imports labs    only these parts
    labs bench --help          what parts there are

Imports and training are measured several times: their medians, with the spread. Two ways of training are run in turn
and compared as a ratio, because a machine's speed drifts. Growth is the best of three; whole labs and studies, which
take minutes, run once each. Keep the machine quiet meanwhile. What is measured is kept in benchmarks/results, and
`labs links` makes the README's tables from it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import record
import report
import training

from labkit import runner, stress

REPEATS = 7


def measure(code):
    """Run Python code in a fresh process; return the number that it prints."""
    environment = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"A measurement stopped with an error:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def imports():
    """Seconds that each import adds, beyond NumPy's own."""
    timed = "import numpy, time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    statements = {
        "labkit": "import labkit",
        "what a lab without Keras imports": "from labkit import session, plots, claims, exercises",
        "what a lab with Keras imports": "from labkit import session, data; session.start(1)",
    }
    seconds = {name: [] for name in statements}
    for _ in range(REPEATS):
        for name, statement in statements.items():
            seconds[name].append(measure(timed.format(statement)))
    rows = [
        {"import": name, "seconds": statistics.median(each), "least": min(each), "most": max(each)}
        for name, each in seconds.items()
    ]
    record.write("imports", rows, imports, measure)
    return rows


def labs():
    """Seconds and peak memory of each lab: alone with a thread per core, then with one thread, a lab per core."""
    _need_mnist()
    cores, rows = os.cpu_count() or 1, {}
    for threads, jobs in ((cores, 1), (1, cores)):
        paths = runner.find_labs()
        for path, result in zip(paths, runner.run(paths, jobs, threads, report=show_lab), strict=True):
            if result.failure:
                raise SystemExit(f"{result.name}: {result.failure}")
            row = rows.setdefault(result.name, {"lab": result.name[:2], "code": stress.digest(path)})
            way = f"{threads} thread{'s' * (threads > 1)}, {jobs} lab{'s' * (jobs > 1)} at once"
            row |= {f"seconds, {way}": round(result.seconds, 1), f"peak MB, {way}": result.peak_mb}
        record.write("labs", list(rows.values()), labs)
    return list(rows.values())


def _need_mnist():
    from labkit import data

    if not data.has_mnist():
        raise SystemExit("This is measured on MNIST, which is not here: see `labs data`.")


def show_lab(result):
    print(f"{result.name}: {result.seconds:.1f} s, {result.peak_mb} MB", flush=True)


def _study_code(timed):
    """Code that trains lab 02's nine networks, one seed, by these lines, and prints how many seconds they took."""
    return f"""
import tempfile, time
from labkit import runner, study
if __name__ == "__main__":
    whole = next(s for s in study.of_notebook(*runner.find_labs(["02"])) if s.name == "02.nine")
    schedule = {{"epochs": whole.epochs, "batch_size": whole.batch_size}}
    build, load = whole.functions["build"], whole.functions["load"]
    with tempfile.TemporaryDirectory() as where:
        part = study.Study("00.bench", build, load, whole.options, seeds=[1], where=where, **schedule)
        start = time.perf_counter()
{textwrap.indent(textwrap.dedent(timed).strip(), 8 * " ")}
    print(time.perf_counter() - start)
"""


def _plain_study():
    """The same networks by plain calls of Keras, as code."""
    return """
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


def study():
    """Lab 02's nine networks, one seed, all epochs: a study against a plain loop of `fit`, as a ratio of times."""
    _need_mnist()
    rows = []
    for _ in range(2):
        plain = measure(_study_code(_plain_study()))
        ours = measure(_study_code("part.record()"))
        rows.append({"study": "02.nine, one seed", "plain": plain, "recorded": ours, "ratio": plain / ours})
        print(f"plain loop {plain:.0f} s, study {ours:.0f} s, ratio {plain / ours:.2f}", flush=True)
        record.write("study", rows, study, _study_code, _plain_study)
    return rows


SHARE = 10  # of a row's epochs, one is trained in so many


def _reproduction_code(timed):
    """Code that trains every row of lab 90, one seed, a part of its epochs, by these lines; prints the seconds."""
    return f"""
import re, tempfile, time
from pathlib import Path
import nbformat
from labkit import runner, study
if __name__ == "__main__":
    notebook = nbformat.read(*runner.find_labs(["90"]), as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub('"epochs": ([0-9]+)', lambda found: f'"epochs": {{int(found[1]) // {SHARE}}}', cell.source)
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        nbformat.write(notebook, folder / "90.ipynb")
        whole = {{one.name: one for one in study.of_notebook(folder / "90.ipynb")}}
        short, long = whole["90.short"], whole["90.long"]
        rows = [*short.options["row"], "D6", *long.options["row"], "B1", "B2", "B3"]
        functions = {{role: short.functions[role] for role in ("build", "load", "epochs", "batch_size", "callbacks")}}
        part = study.Study("00.bench", options={{"row": rows}}, seeds=[1], where=folder, **functions)
        start = time.perf_counter()
{textwrap.indent(textwrap.dedent(timed).strip(), 8 * " ")}
    print(time.perf_counter() - start)
"""


def _plain_reproduction():
    """The same rows by plain calls of Keras, as code."""
    return """
        import keras
        build, load, epochs, batch_size, callbacks = functions.values()
        for row in rows:
            keras.utils.set_random_seed(1)
            mnist, model = load(row), build(row)
            model.fit(
                mnist.x_train, mnist.y_train, validation_data=(mnist.x_valid, mnist.y_valid), verbose=0,
                epochs=epochs(row), batch_size=batch_size(row), callbacks=callbacks(row),
            )
            model.evaluate(mnist.x_test, mnist.y_test, verbose=0)
            keras.backend.clear_session()
    """


def reproduction():
    """Every trained row of the sources, one seed, a tenth of its epochs: the study against plain calls of `fit`."""
    _need_mnist()
    plain, ours = (measure(_reproduction_code(code)) for code in (_plain_reproduction(), "part.record()"))
    rows = [{"study": "28 rows, a tenth of their epochs", "plain": plain, "recorded": ours, "ratio": plain / ours}]
    record.write("reproduction", rows, reproduction, _reproduction_code, _plain_reproduction)
    return rows


def test():
    """Seconds of the whole `labs test`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "labkit.cli", "test", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    return [{"seconds": time.perf_counter() - start, "exit status": done.returncode, "said": last}]


PARTS = {
    "imports": imports,
    "training": training.training,
    "growth": training.growth,
    "labs": labs,
    "study": study,
    "reproduction": reproduction,
    "test": test,
}
USUAL = ("imports", "training", "growth", "labs")
# Files of this folder with options of their own.
FILES = {
    "classroom": "What a classroom on one hub costs, and how many students a machine holds.",
    "faults": "What the course survives: kills, full disks, read-only homes, no network, ...",
    "installations": "The course on each Python, with the oldest and the newest packages allowed.",
}


def main():
    if sys.argv[1:] and sys.argv[1] in FILES:
        sys.exit(subprocess.call([sys.executable, str(Path(__file__).with_name(f"{sys.argv[1]}.py")), *sys.argv[2:]]))
    said = {name: part.__doc__.splitlines()[0] for name, part in PARTS.items()} | FILES
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="parts:\n" + "\n".join(f"  {name:14} {text}" for name, text in said.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = f"by default {', '.join(USUAL)}; {', '.join(FILES)}: one alone, with its own options"
    parser.add_argument("parts", nargs="*", metavar="part", help=usual)
    chosen = parser.parse_args().parts
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    runner.fix_data_path()
    for name in chosen or USUAL:
        print(said[name], flush=True)
        record.show(PARTS[name]())
        if name == "growth":
            report.growth_figure()


if __name__ == "__main__":
    main()
