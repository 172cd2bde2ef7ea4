"""Tries the course on each Python that it allows, and on the oldest and newest packages that pyproject.toml allows.

    labs bench installations                          all of it: up to ten minutes for each combination
    labs bench installations 3.11-oldest 3.13-newest  only these; what was found for the others stays

Each combination is a copy of this project with a lock of its own, set up by its labs.py as a student does it. Needs a
network and 3 GB of disk, and those Pythons: on the PATH, or under pyenv. The copies are deleted afterwards.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import psutil
import record

from labkit.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
RESOLUTIONS = {"locked": None, "oldest": "lowest-direct", "newest": "highest"}
SAID = {"locked": "locked", "oldest": "oldest allowed", "newest": "newest"}
COMBINATIONS = {
    f"{python}-{kind}": (python, kind)
    for python, kind in (
        ("3.11", "locked"), ("3.12", "locked"), ("3.13", "locked"), ("3.11", "oldest"), ("3.13", "newest"),
    )
}  # fmt: skip
LABS = ("06", "03", "90")  # with NumPy alone, with Keras, and the one that imports most
# How the project is set up is what is tried here anyway; what Ruff finds depends on its version; the exercises' judges
# train networks for minutes, with the same few functions of Keras as the labs.
LEFT_OUT = ("tests/test_setup.py", "tests/test_style.py", "tests/test_exercises.py")
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", ".*_cache", "*.part")
HOUR = 3600  # no command takes longer, unless it hangs
LAST_LINES = 5  # of what a command said, where it says nothing better


# ---- Setting up ------------------------------------------------------------------------------------------------------


def find_python(version):
    """Path of a Python such as "3.12" on this computer; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    ends = ("bin/python", "python.exe")
    places = [sys.executable, *(path for end in ends for path in sorted(pyenv.glob(f"{version}.*/{end}")))]
    for place in [*places, shutil.which(f"python{version}")]:
        # Asked for its version: pyenv puts commands on the PATH for Pythons that are switched off.
        ask = [place, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if place and call(ask, os.curdir)[1].strip() == version:
            # Outside its environment, if it is in one, so that what is made from it stands alone.
            return call([place, "-c", "import sys; print(sys._base_executable)"], os.curdir)[1].strip()
    return None


def call(command, folder, seconds=HOUR, **settings):
    """Run a command in a folder; its exit status and what it printed. `settings`: environment variables.

    A command that takes longer than `seconds` is broken off, with all that it has started; its exit status is then 1.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment = inherited | {"LABKIT_DATA": "digits", "PYTHONUTF8": "1"} | settings
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for one in (*psutil.Process(process.pid).children(recursive=True), process):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.communicate()
        return 1, f"broken off after {seconds} seconds"
    return process.returncode, said


def find_uv(python, folder):
    """Path of uv, which can choose the oldest versions; if it is not here, pip puts it into an environment of its own.

    Raises LabError if it cannot be had.
    """
    if found := shutil.which("uv"):
        return found
    home = folder / "uv"
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    status, said = call([python, "-m", "venv", home], folder)
    if status == 0:
        status, said = call([scripts / "python", "-m", "pip", "install", "--quiet", "uv"], folder)
    if status:
        raise LabError(f"uv cannot be installed, and without it no versions can be chosen: {tail(said)}")
    return scripts / "uv"


def choose(copy, python, version, kind):
    """Replace the copy's lock by the oldest or newest versions that pyproject.toml's dependencies allow.

    pyproject.toml's own settings for uv are left out: they are about the lock, and pip does not know them.
    Raises LabError if no versions fit together.
    """
    uv = find_uv(python, copy.parent)
    dependencies = tomllib.loads((copy / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    wanted = copy.parent / "wanted.in"
    wanted.write_text("\n".join(dependencies) + "\n", encoding="utf-8")
    command = [uv, "pip", "compile", wanted, "--no-config", "--resolution", RESOLUTIONS[kind], "--quiet"]
    command += ["--python-version", version, "--no-header", "--no-annotate", "--output-file", "chosen.txt"]
    status, said = call(command, copy.parent, UV_CACHE_DIR=str(copy.parent / "cache"))
    if status:
        raise LabError(f"No versions fit together: {tail(said)}")
    shutil.move(copy.parent / "chosen.txt", copy / "requirements.txt")


# ---- Trying ----------------------------------------------------------------------------------------------------------


def set_up(copy, python):
    """labs.py sets the copy up, and the doctor looks at it; None, or a sentence that says what is wrong."""
    status, said = call([python, "labs.py", "doctor"], copy)
    broken = [line[2:].strip() for line in said.splitlines() if line.startswith("✗ ")]
    if broken:
        return f"The doctor finds: {'; '.join(broken)}"
    return f"It cannot be set up: {tail(said)}" if status else None


def run_labs(copy, python):
    """Run LABS on the digits; a row's words for it, and None or a sentence that says what is wrong."""
    _, said = call([python, "labs.py", "run", *LABS, "--save"], copy)
    claims = {lab: int(count) for lab, count in re.findall(r"^(\d\d)_\S+ +\d+ +(\d+) .* ok$", said, re.MULTILINE)}
    ran = [lab for lab in LABS if lab in claims]
    words = f"{', '.join(ran)} ran ({sum(claims.values())} claims)" if ran else ""
    if len(ran) < len(LABS):
        failures = re.findall(r"^  (\d\d_.*)$", said, re.MULTILINE)
        return words, f"A lab fails: {'; '.join(failures) or tail(said)}"
    if warnings := [line for lab in LABS for line in warned(next(copy.glob(f"notebooks/{lab}_*.ipynb")))]:
        return words, f"Students see warnings: {'; '.join(warnings)}"
    return words, None


def warned(notebook):
    """What a lab's stored outputs hold that no student should see: the first line of each warning."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "stream"]
    texts = [(output["name"], "".join(output["text"])) for output in outputs]
    return [text.strip().splitlines()[0] for name, text in texts if name == "stderr" or "WARNING" in text]


def run_tests(copy, python):
    """Run the unit tests; a row's words for it, and None or a sentence that says what is wrong."""
    left_out = [f"--ignore={path}" for path in LEFT_OUT]
    _, said = call([python, "labs.py", "test", "tests", "-q", *left_out], copy)
    if not (ends := re.findall(r"^=* ?((?:\d+ \w+, )*\d+ passed.*?) in [\d.]+s", said, re.MULTILINE)):
        return "", f"The tests do not run: {tail(said)}"
    failed = re.findall(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", said, re.MULTILINE)
    return ends[-1], f"Tests fail: {', '.join(failed)}" if failed else None


def tail(said):
    """The last lines of what a command printed, as one line."""
    return " ".join(said.split("\n")[-LAST_LINES - 1 :]).strip()


def installed(copy):
    """The versions in the copy's environment of those packages that a row names."""
    code = (
        "from importlib import metadata\n"
        "found = {one.name.lower().replace('_', '-'): one.version for one in metadata.distributions()}\n"
        "print(found.get('tensorflow-cpu', found.get('tensorflow')), found.get('keras'), found.get('numpy'))"
    )
    python = copy / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    status, said = call([python, "-c", code], copy) if python.exists() else (1, "")
    return dict(zip(("tensorflow", "keras", "numpy"), said.split() if status == 0 else [""] * 3, strict=True))


def attempt(name, python):
    """Try one combination, with this Python, in a temporary folder; its row."""
    version, kind = COMBINATIONS[name]
    row = {"python": version, "dependencies": SAID[kind]} | dict.fromkeys(("tensorflow", "keras", "numpy"), "")
    row |= {"tests": "", "labs": "", "outcome": "works"}
    with tempfile.TemporaryDirectory(prefix="labs-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "labs"
        shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
        try:
            if kind != "locked":
                choose(copy, python, version, kind)
            wrong = [set_up(copy, python)]
        except LabError as error:
            return row | {"outcome": str(error)}
        row |= installed(copy)
        if not row["numpy"]:
            return row | {"outcome": wrong[0]}
        # The README tells of this very measurement; what it says of the combinations before is not in it yet.
        call([python, "labs.py", "links"], copy)
        # The tests come first: they look at the outputs that are stored with the course.
        for key, run in (("tests", run_tests), ("labs", run_labs)):
            row[key], sentence = run(copy, python)
            wrong.append(sentence)
    return row | {"outcome": " ".join(sentence for sentence in wrong if sentence) or "works"}


# ----------------------------------------------------------------------------------------------------------------------


def main(arguments=None):
    """What works on which Python, and with which versions of the packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="combination", help=f"of {', '.join(COMBINATIONS)}; all by default")
    record.digest(sys.modules[__name__])
    names = parser.parse_args(arguments).names or list(COMBINATIONS)
    if unknown := [name for name in names if name not in COMBINATIONS]:
        raise LabError(f"There is no combination {', '.join(unknown)}: choose from {', '.join(COMBINATIONS)}.")
    for name in names:
        version, _ = COMBINATIONS[name]
        python = find_python(version)
        if python is None:
            print(f"{name}: there is no Python {version} here, so it is not tried.", flush=True)
            continue
        row = attempt(name, python)
        print(", ".join(f"{key} {value or '?'}" for key, value in row.items()), flush=True)
        keep(row)
    if kept := record.read("installations"):
        record.show(kept["rows"])


def keep(row):
    """Put a row in the place of that of the same combination; the others stay. In the order of COMBINATIONS."""
    kept = record.read("installations")
    rows = [*(kept["rows"] if kept else []), row]
    rows = {(row["python"], row["dependencies"]): row for row in rows}
    keys = [(version, SAID[kind]) for version, kind in COMBINATIONS.values()]
    found = [rows[key] for key in keys if key in rows]
    record.write("installations", found, sys.modules[__name__], among=kept if len(found) > 1 else None)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(str(error))
