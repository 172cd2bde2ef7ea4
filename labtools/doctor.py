"""Checks of this computer and this installation: one line each, with the mend."""

import importlib
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
from labkit.errors import LabError
from labtools import project, run

LOCK = project.ROOT / "requirements.txt"
PIP = ("-m", "pip", "install", "--no-user")  # whatever pip.conf says
GOOD, WARN, BAD = "✓", "!", "✗"
SAID = {GOOD: ("ok", "+"), WARN: ("warning", "!"), BAD: ("wrong", "x")}  # the word, and the sign in ASCII
NEED_GB = 2.0  # of memory, for one lab and JupyterLab
NEED_DISK_GB = 1.0
NAMED = 3  # how many differing packages to name
OPTIONAL = ("bz2", "ctypes", "lzma", "sqlite3", "ssl")  # what a Python that was built without their libraries lacks


def main() -> int:
    """Print one line for each check; return 1 if something is wrong, else 0. Warnings do not count."""
    marks = set()
    for name, check in CHECKS.items():
        try:
            mark, text = check()
        except Exception as error:  # a broken package can fail in any way, and is what the doctor is for
            mark, text = BAD, _cannot_be_checked(error)
        word, sign = SAID[mark]
        line = f"{mark} {name:10}  {word}: {text}"
        try:
            line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            line = sign + line[1:]
        print(line, flush=True)
        marks.add(mark)
    return int(BAD in marks)


def _cannot_be_checked(error):
    """What to do where a check itself stops with an error."""
    name = getattr(error, "name", None) or ""
    cause = error.__cause__ or error
    found = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:120]}"
    if isinstance(error, LabError):
        return str(error)
    if isinstance(error, ImportError) and name.partition(".")[0] in sys.stdlib_module_names:
        return f"this Python lacks its own module {name}: install Python 3.12 from python.org, and run labs.py with it"
    if isinstance(error, ModuleNotFoundError):
        return f"the package {name} is missing: {_mend(*PIP, '-r', LOCK)}"
    if isinstance(error, OSError):
        return f"a file is missing, or cannot be read ({found}): download the course again, and run labs.py there"
    return f"a package is broken ({found}): {_mend(*PIP, '--force-reinstall', '-r', LOCK)}"


def _mend(*arguments):
    """What to type, for this Python; the quotes are good for every system's shell."""
    return f"run {subprocess.list2cmdline([sys.executable, *map(str, arguments)])}"


def _ask(python, code):
    """Run code in another Python. Returns its exit status, the last line of stdout, and stderr."""
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [python, "-P", "-c", f"import sys; {code}"],
        env=os.environ | settings, capture_output=True, text=True, errors="replace", timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, (done.stdout.strip().splitlines() or [""])[-1], done.stderr.strip()


def check_python():
    """Whether this Python is one that pyproject.toml allows, and is complete. Each check returns (mark, text)."""
    from packaging.specifiers import SpecifierSet

    settings = tomllib.loads((project.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted, version = settings["project"]["requires-python"], ".".join(map(str, sys.version_info[:3]))
    for module in OPTIONAL:
        importlib.import_module(module)
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return GOOD, f"{version} in {sys.prefix}"
    return BAD, f"{version}, but the labs need {wanted}: install Python 3.12 and run labs.py with it"


def locked(lock=LOCK) -> dict[str, str]:
    """Return {package: version} of the lock's lines that are meant for this system and Python."""
    from packaging.requirements import Requirement

    lines = lock.read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    wanted = [one for one in requirements if one.marker is None or one.marker.evaluate()]
    return {one.name: next(iter(one.specifier)).version for one in wanted}


def check_packages():
    """Whether the installed packages are those of the lock."""
    wanted, differing = locked(), []
    for name, version in wanted.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            differing.append(f"{name} {found} (lock: {version})")
    if not differing:
        return GOOD, f"all {len(wanted)} as locked in requirements.txt"
    named = ", ".join(differing[:NAMED]) + (" and more" if len(differing) > NAMED else "")
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


def check_kernel():
    """Whether JupyterLab's `Python 3` is this Python."""
    import ipykernel  # noqa: F401 - without it there is no kernel, whatever is registered
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")
    # A bare name is replaced by the Python that JupyterLab itself runs in. Of others, the kernel's own Python says
    # where it is: the file of a virtual environment's python is that of the Python which made it.
    try:
        prefix = sys.prefix if spec.argv[0] in {"python", "python3"} else _ask(spec.argv[0], "print(sys.prefix)")[1]
        if os.path.samefile(prefix, sys.prefix):
            return GOOD, "JupyterLab's kernel python3 is this Python"
    except (OSError, subprocess.TimeoutExpired):
        pass
    found = f"JupyterLab's kernel python3 is another Python, {spec.argv[0]}"
    if Path(spec.resource_dir).is_relative_to(sys.prefix):
        return BAD, f"{found}: {_mend('-m', 'ipykernel', 'install', '--sys-prefix')}"
    # What stands elsewhere is found first: a kernel of ours would only be hidden behind it.
    return WARN, f"{found}, unless labs.py starts JupyterLab: move the folder {spec.resource_dir} away"


def check_labs():
    """Whether each lab can be read, and no file beside them, or on PYTHONPATH, hides a package from them."""
    labs = project.find_labs()
    for lab in labs:
        project.read_notebook(lab)
    packages = {"labkit", "labtools", *importlib.metadata.packages_distributions(), *sys.stdlib_module_names}
    others = [Path(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    folders = [
        folder for folder in (project.NOTEBOOKS, *others) if folder.is_dir() and folder.resolve() != project.ROOT
    ]
    found = [path for folder in folders for path in sorted(folder.iterdir()) if path.stem in packages]
    found = [str(path) for path in found if path.suffix == ".py" or (path / "__init__.py").exists()]
    if found:
        return BAD, f"{', '.join(found[:NAMED])} hides a package of that name: rename it, or unset PYTHONPATH"
    return GOOD, f"all {len(labs)} can be read, and no file hides a package from them"


def check_tensorflow():
    """Whether TensorFlow and Keras load: they fail where a processor, a system library or a setting does not fit."""
    status, version, said = _ask(sys.executable, "import keras, tensorflow; print(tensorflow.__version__)")
    last = (said.splitlines() or [f"exit status {status}"])[-1]
    if status == 0:
        return GOOD, f"{version} loads"
    if status in run.TOO_OLD or "aren't available on your machine" in said:
        return BAD, "does not load, because this processor is too old for it (no AVX): use Binder or Colab"
    if "configuration. Expected" in last:
        return BAD, f"does not load ({last}): correct or delete the file keras.json in the folder .keras of your home"
    if sys.platform == "win32":
        return BAD, f"does not load ({last}): install Microsoft's Visual C++ Redistributable (x64)"
    return BAD, f"does not load ({last}): {_mend(*PIP, '--force-reinstall', '-r', LOCK)}"


def check_memory():
    """Whether a lab fits into the free memory, and how many run side by side."""
    import joblib

    free, jobs = _machine.free_memory_gb(), _machine.default_jobs()
    if free < NEED_GB:
        return WARN, f"{free:.1f} GB free, and a lab may need {_machine.LAB_GB}: close other programs before you start"
    return GOOD, f"{free:.1f} GB free and {joblib.cpu_count()} cores, so `labs run` does {jobs} at a time"


def check_disk():
    """Whether there is room for data and outputs."""
    free = shutil.disk_usage(project.ROOT).free / 1e9
    if free < NEED_DISK_GB:
        return WARN, f"{free:.1f} GB free: delete something before outputs or data can no longer be stored"
    return GOOD, f"{free:.0f} GB free"


def check_data():
    """Where MNIST would come from."""
    from labkit import data

    chosen = os.environ.get("LABKIT_DATA", "").strip()
    if chosen == "digits":
        return WARN, "scikit-learn's digits, because LABKIT_DATA is digits: unset it to use MNIST"
    places = data.status()
    for place, path, state in places:
        if state == "MNIST":
            return GOOD, f"MNIST from {place}, {path}"
    if chosen:
        ((_, path, state),) = places
        return BAD, f"LABKIT_DATA leads to {path}, which {state}: correct it, or unset it"
    return WARN, "MNIST is not on this computer yet: run `labs data --fetch` while there is a network"


CHECKS = {"Python": check_python, "packages": check_packages, "labkit": check_labkit, "kernel": check_kernel,
          "labs": check_labs, "TensorFlow": check_tensorflow, "memory": check_memory, "disk": check_disk,
          "data": check_data}  # fmt: skip
