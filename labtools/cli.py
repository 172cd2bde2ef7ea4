"""The `labs` command: open, run, test, record, robustness, doctor, data, bench, site."""

import argparse
import os
import subprocess
import sys
import traceback

from labkit import _machine
from labkit.errors import LabError
from labtools import packages, project, run

# Commands whose further arguments go to the tool behind them.
PASS_ON = {"open", "test", "bench"}


def main(argv=None):
    """Run the `labs` command with these arguments (those of the command line by default); return its exit status."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # a console that lacks a letter shows its number, and goes on
    parser = _parser()
    chosen, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    if rest and chosen.command not in PASS_ON:
        parser.error(f"unknown: {' '.join(rest)} (see `labs {chosen.command} --help`)")
    if chosen.command in PASS_ON:
        chosen.rest = rest
    try:
        if not project.NOTEBOOKS.is_dir() and chosen.command != "doctor":
            raise LabError(f"{project.NOTEBOOKS} is not there: run `python3 labs.py` in the folder of the course.")
        project.fix_home()
        project.fix_data_path()
        return COMMANDS[chosen.command](chosen)
    except LabError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except Exception as error:  # which nobody foresaw: often a package that is missing or broken
        if not isinstance(error, ImportError):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}. `labs doctor` looks for the cause in this Python.", file=sys.stderr)
    return 1


def _parser():
    parser = argparse.ArgumentParser(prog="labs", description="Neural Network Labs.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="command")
    parser.set_defaults(command="open", lab=None)

    def add(name, text, labs_at_a_time=""):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if labs_at_a_time:
            command.add_argument("labs", nargs="*", metavar="NN", help="numbers or names of labs; all by default")
            jobs = f"{labs_at_a_time} at a time; by default one per core, if memory allows"
            command.add_argument("--jobs", type=_count, help=jobs)
        return command

    command = add("open", "Open JupyterLab on the index, or on one lab; this is what `labs` alone does.")
    command.add_argument("lab", nargs="?", metavar="NN", help="number of a lab, such as 06")
    command = add("run", "Run labs without a browser, side by side, and say what came of each.", "labs")
    command.add_argument("--save", action="store_true", help="store the outputs in the notebooks that ran")
    command.add_argument("--threads", type=_count, help="threads per lab; by default 1 if labs run side by side")
    add("test", "Test everything: labkit, and each lab's outputs against the stored ones. Takes pytest's options.")
    command = add("record", "Train the runs of studies that are not recorded yet, or were with other code.", "runs")
    command.add_argument("--check", action="store_true", help="train nothing; fail if a record is not complete")
    command = add("robustness", "Run labs under other seeds, and say which claims do not hold.", "labs")
    command.add_argument("--seeds", type=_count, default=10, help="how many different ones (10)")
    add("doctor", "Check this computer and this installation.")
    command = add("data", "Show where MNIST comes from; download it if it is nowhere.")
    command.add_argument("--fetch", action="store_true", help="put MNIST into the cache folder for offline use")
    add("bench", "Measure time and memory. Takes the benchmarks' options.")
    command = add("site", "Write the public address of this copy, and the tables, into every page that shows them.")
    command.add_argument("--check", action="store_true", help="change nothing; fail if a page is out of date")
    command.add_argument("--address", metavar="URL", help="the public address, https://github.com/OWNER/NAME")
    return parser


def _count(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _open(chosen):
    from jupyterlab.labapp import LabApp

    for name, value in _machine.SMALL.items():
        os.environ.setdefault(name, value)
    # First this Python's kernel, whatever else of that name the user has installed.
    kernels = [os.path.join(sys.prefix, "share", "jupyter"), os.environ.get("JUPYTER_PATH")]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, kernels))
    (lab,) = project.find_labs([chosen.lab or "00"])
    return LabApp.launch_instance([str(lab), f"--ServerApp.root_dir={project.ROOT}", *chosen.rest]) or 0


def _run(chosen):
    from labkit import data

    labs = project.find_labs(chosen.labs)
    width = max(len(lab.stem) for lab in labs)
    print(f"{'lab':{width}}  cells  claims  seconds  peak MB")

    def show(result):
        outcome = "ok" if result.failure is None else f"FAILED\n  {result.name}, {result.failure}"
        numbers = f"{result.cells:5}  {result.claims:6}  {result.seconds:7.1f}  {result.peak_mb:7,}"
        print(f"{result.name:{width}}  {numbers}  {outcome}", flush=True)

    jobs = chosen.jobs or _machine.default_jobs()
    results = run.run(labs, jobs, chosen.threads, save=chosen.save, report=show)
    if not data.has_mnist():
        print("Run without MNIST, on the digits that stand in for it; `labs data` says how to get MNIST.")
        if chosen.save:
            print("CAREFUL: the outputs that were stored with the course were made on MNIST; those saved now are not.")
    failed = [result.name for result in results if result.failure is not None]
    print(f"{len(failed)} of {len(results)} FAILED: {', '.join(failed)}" if failed else f"All {len(results)} ok.")
    return 1 if failed else 0


def _test(chosen):
    packages.need()
    import pytest

    compare = "--nbval"
    if not _have_mnist():
        print("NOT COMPARED: the stored outputs are those of MNIST, not of the digits (see `labs data`).", flush=True)
        os.environ["LABKIT_DATA"] = "digits"  # so that no kernel tries the network again
        compare = "--nbval-lax"
    os.chdir(project.ROOT)
    # The cells of a notebook stay with one worker. Slow tests share nothing, so each goes to whoever is free.
    slow = chosen.rest[:2] == ["-m", "slow"]
    side_by_side = ["-n", str(_machine.default_jobs())]
    side_by_side += ["--dist", "load", "--maxschedchunk", "1"] if slow else ["--dist", "loadfile"]
    notebooks = [compare, "--nbval-current-env", f"--nbval-cell-timeout={run.CELL_SECONDS}"]
    notebooks.append(f"--nbval-sanitize-with={project.ROOT / 'tests' / 'nbval-sanitize.cfg'}")
    usual = [] if "-m" in chosen.rest else ["-m", "not slow"]
    return int(pytest.main([*side_by_side, *notebooks, *usual, *chosen.rest]))


def _have_mnist():
    """Whether the labs will run on MNIST. If it is nowhere, try to download it once, before any kernel does."""
    from labkit import data

    if os.environ.get("LABKIT_DATA", "").strip() == "digits":
        return False
    if data.has_mnist():
        return True
    _refuse_wrong_path(data.status())
    print("MNIST is not on this computer yet: downloading it.", flush=True)
    try:
        data.fetch()
    except LabError as error:
        print(error, flush=True)
        return False
    return True


def _refuse_wrong_path(places):
    """Raise LabError if LABKIT_DATA is set: then the labs look nowhere else, and a download would not help."""
    if os.environ.get("LABKIT_DATA", "").strip():
        ((_, path, state),) = places
        raise LabError(f"LABKIT_DATA leads to {path}, which {state}: correct LABKIT_DATA, or unset it.")


def _record(chosen):
    from labtools.studies import of_notebook

    studies = [one for lab in project.find_labs(chosen.labs) for one in of_notebook(lab)]
    if not studies:
        raise LabError("These labs have no studies, so there is nothing to record.")
    if chosen.check:
        complaints = [one.complaint() for one in studies if not one.status().complete]
        print("\n".join(complaints) or f"All {len(studies)} records are complete.")
        return 1 if complaints else 0
    if not _have_mnist():
        raise LabError("Studies are recorded on MNIST, which is not here: see `labs data`.")
    for one in studies:
        try:
            trained = one.record(chosen.jobs)
        except KeyboardInterrupt:
            print("\nStopped. What had ended is recorded; `labs record` goes on from there.", file=sys.stderr)
            return 130
        print(f"{one.name}: {len(one.grid())} runs recorded, {trained} of them now.", flush=True)
    return 0


def _robustness(chosen):
    from labtools import robustness

    labs, jobs = project.find_labs(chosen.labs), chosen.jobs or _machine.default_jobs()
    datasets = {"MNIST": os.environ.get("LABKIT_DATA", "")} if _have_mnist() else {}
    failures = robustness.check(labs, datasets | {"digits": "digits"}, chosen.seeds, jobs)
    print("\n".join(["FAILED:", *failures]) if failures else "All claims hold under all seeds.")
    return 1 if failures else 0


def _doctor(_):
    from labtools import doctor

    return doctor.main()


def _data(chosen):
    from labkit import data

    places = data.status()
    for place, path, state in places:
        print(f"{place}: {path} {'is MNIST' if state == 'MNIST' else state}.")
    digits = os.environ.get("LABKIT_DATA", "").strip() == "digits"
    found = digits or data.has_mnist()
    if not found and not chosen.fetch:
        _refuse_wrong_path(places)
    if chosen.fetch or not found:
        print(f"MNIST is in {data.fetch()}: the labs need no network any more.")
    return 0


def _bench(chosen):
    packages.need()
    script = project.ROOT / "benchmarks" / "run.py"
    return subprocess.call([sys.executable, str(script), *chosen.rest], cwd=project.ROOT)


def _site(chosen):
    from labtools import site

    return site.main(chosen.check, chosen.address)


COMMANDS = {"open": _open, "run": _run, "test": _test, "record": _record, "robustness": _robustness,
            "doctor": _doctor, "data": _data, "bench": _bench, "site": _site}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
