"""What a student does not need: packages that a command installs when it is first called."""

import importlib.util
import subprocess
import sys

from labkit.errors import LabError
from labtools.project import ROOT

DEV = ("pytest", "nbval", "xdist", "yaml", "importlinter", "ruff")


def need(modules=DEV, lock: str = "requirements-dev.txt") -> None:
    """Install a lock if one of these modules is missing from this Python.

    Raises
    ------
    LabError
        Where they cannot be installed.
    """
    if all(importlib.util.find_spec(module) for module in modules):
        return
    print(f"Installing what this command needs beside the labs ({lock}) ...", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-user", "--disable-pip-version-check"]
    if importlib.util.find_spec("uv"):
        pip = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    if subprocess.call([*pip, "-r", str(ROOT / lock)]):
        raise LabError(f"The packages of {lock} could not be installed: is there a network?")
    importlib.invalidate_caches()
