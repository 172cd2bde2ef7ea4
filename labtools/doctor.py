"""Checks of this computer and this installation: one line each, with the mend."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from labkit import _machine
from labtools import project, run

LOCK = project.ROOT / "requirements.txt"
PIP = ("-m", "pip", "install")
GOOD, WARN, BAD = "✓", "!", "✗"
NEED_GB = 2.0  # of memory, for one lab and JupyterLab
NEED_DISK_GB = 1.0
NAMED = 3  # how many differing packages to name


def main():
    """Print one line for each check; return 1 if something is broken (✗), else 0. Warnings (!) do not count."""
    broken = False
    for name, check in CHECKS.items():
        try:
            mark, text = check()
        except Exception as error:  # a broken package can fail in any way, and is what the doctor is for
            mark, text = BAD, _cannot_be_checked(error)
        print(f"{mark} {name:10}  {text}", flush=True)
        broken = broken or mark == BAD
    return int(broken)


def _cannot_be_checked(error):
    """What to do where a check itself stops with an error."""
    name = getattr(error, "name", None) or ""
    if isinstance(error, ImportError) and name.partition(".")[0] in sys.stdlib_module_names:
        return f"this Python lacks its own module {name}: install Python 3.12 from python.org, and run labs.py with it"
    if isinstance(error, ModuleNotFoundError):
        return f"cannot be checked without the package {name}: {_mend(*PIP, '-r', LOCK)}"
    first = str(error).strip().partition("\n")[0][:120]
    mend = _mend(*PIP, "--force-reinstall", "-r", LOCK)
    return f"a package is broken ({type(error).__name__}: {first}): {mend}"


def _mend(*arguments):
    """What to type, for this Python; the quotes are good for every system's shell."""
    return f"run {subprocess.list2cmdline([sys.executable, *map(str, arguments)])}"


def check_python():
    """Whether this Python is one that pyproject.toml allows. Each check returns (mark, text)."""
    from packaging.specifiers import SpecifierSet

    project = tomllib.loads((project.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["requires-python"]
    version = ".".join(map(str, sys.version_info[:3]))
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return GOOD, f"{version} in {sys.prefix}"
    return BAD, f"{version}, but the labs need {wanted}: install Python 3.12 and run labs.py with it"


def locked(lock=LOCK):
    """Return {package: version} of the lock's lines that are meant for this system and Python."""
    from packaging.requirements import Requirement

    lines = lock.read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {
        requirement.name: next(iter(requirement.specifier)).version
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def check_packages():
    """Whether the installed packages are those of the lock."""
    wanted = locked()
    differing = []
    for name, version in wanted.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            differing.append(f"{name} {found} (lock: {version})")
    if not differing:
        return GOOD, f"all {len(wanted)} as locked in requirements.txt"
    named = ", ".join(differing[:NAMED]) + (", …" if len(differing) > NAMED else "")
    return BAD, f"{len(differing)} of {len(wanted)} not as locked: {named}; {_mend(*PIP, '-r', LOCK)}"


def check_labkit():
    """Whether the installed labkit is this checkout, so that kernels see changes to it."""
    mend = _mend(*PIP, "--no-deps", "-e", project.ROOT)
    # A build leaves metadata without an origin in the checkout, which is found too where the checkout is on the path.
    origins = [found.read_text("direct_url.json") for found in importlib.metadata.distributions(name="nn-labs")]
    origins = [json.loads(origin) for origin in origins if origin]
    if not origins:
        return BAD, f"not installed: {mend}"
    folder = Path(url2pathname(urlsplit(origins[0]["url"]).path))
    if not origins[0].get("dir_info", {}).get("editable") or folder.resolve() != project.ROOT:
        return BAD, f"installed from {folder}, or as a copy, so it is not {project.ROOT}: {mend}"
    return GOOD, f"this checkout, {project.ROOT}"


def check_memory():
    """Whether a lab fits into the free memory."""
    free = _machine.free_memory_gb()
    if free < NEED_GB:
        return WARN, f"{free:.1f} GB free, and a lab may need {_machine.LAB_GB}: close other programs before you start"
    return GOOD, f"{free:.1f} GB free"


def check_cores():
    """How many labs run side by side."""
    import joblib

    return GOOD, f"{joblib.cpu_count()}, so `labs run` does {_machine.default_jobs()} at a time"


def check_disk():
    """Whether there is room for data and outputs."""
    free = shutil.disk_usage(project.ROOT).free / 1e9
    if free < NEED_DISK_GB:
        return WARN, f"{free:.1f} GB free: delete something before outputs or data can no longer be stored"
    return GOOD, f"{free:.0f} GB free"


def check_data():
    """Where MNIST would come from."""
    from labkit import data

    if os.environ.get("LABKIT_DATA", "").strip() == "digits":
        return WARN, "scikit-learn's digits, because LABKIT_DATA is digits: unset it to use MNIST"
    places = data.status()
    for place, path, state in places:
        if state == "MNIST":
            return GOOD, f"MNIST from {place}, {path}"
    if os.environ.get("LABKIT_DATA", "").strip():
        ((_, path, state),) = places
        return BAD, f"LABKIT_DATA leads to {path}, which {state}: correct it, or unset it"
    return WARN, "MNIST is not on this computer yet: run `labs data --fetch` while there is a network"


def check_kernel():
    """Whether JupyterLab's `Python 3` is this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = _mend("-m", "ipykernel", "install", "--sys-prefix")
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return BAD, f"JupyterLab has no kernel python3: {mend}"
    # A bare name is replaced by the Python that JupyterLab itself runs in. Of others, the kernel's own Python says
    # where it is: the file of a virtual environment's python is that of the Python which made it.
    if spec.argv[0] in {"python", "python3"} or _prefix(spec.argv[0]) == sys.prefix:
        return GOOD, "JupyterLab's kernel python3 is this Python"
    found = f"JupyterLab's kernel python3 is another Python, {spec.argv[0]}"
    if Path(spec.resource_dir).is_relative_to(sys.prefix):
        return BAD, f"{found}: {mend}"
    # What stands elsewhere is found first: a kernel of ours would only be hidden behind it.
    return BAD, f"{found}, and hides ours: move the folder {spec.resource_dir} away"


def _prefix(python):
    """Where a Python says that it is installed; empty if it cannot be run."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", "import sys; print(sys.prefix)"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def check_names():
    """Whether a file beside the labs hides a package from them."""
    packages = set(importlib.metadata.packages_distributions())
    files = sorted(
        path.name
        for path in project.NOTEBOOKS.iterdir()
        if path.stem in packages | set(sys.stdlib_module_names) and (path.suffix == ".py" or path.is_dir())
    )
    if files:
        return BAD, f"in {project.NOTEBOOKS}, {', '.join(files)} hides a package of that name: rename it"
    return GOOD, "no file beside the labs hides a package"


def check_tensorflow():
    """Whether TensorFlow loads: it is what fails where a processor or a system library is too old."""
    done = subprocess.run(
        [sys.executable, "-c", "import tensorflow; print(tensorflow.__version__)"],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return GOOD, f"{done.stdout.strip()} loads"
    if done.returncode in run.TOO_OLD:
        return BAD, "does not load, because this processor is too old for it (no AVX): use Binder or Colab"
    said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if sys.platform == "win32":
        mend = "install Microsoft's Visual C++ Redistributable (x64)"
    else:
        mend = _mend(*PIP, "--force-reinstall", "-r", LOCK)
    return BAD, f"does not load ({said}): {mend}"


CHECKS = {
    "Python": check_python,
    "packages": check_packages,
    "labkit": check_labkit,
    "kernel": check_kernel,
    "names": check_names,
    "TensorFlow": check_tensorflow,
    "memory": check_memory,
    "cores": check_cores,
    "disk": check_disk,
    "data": check_data,
}
