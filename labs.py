#!/usr/bin/env python3
"""The front door: sets up .venv beside this file, then hands its arguments to the `labs` command in it.

Needs Python and nothing else. An old Python must be able to read this file and say what is wrong: no f-strings here.
"""
# ruff: noqa: UP031, RUF005, SIM105 - the newer forms that these ask for are what an old Python cannot read

import hashlib
import os
import platform
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))
STAMP = os.path.join(VENV, "labs-stamp.txt")
LOG = os.path.join(VENV, "labs-pip.log")
UV = "uv==0.13.9"  # installs the same lock as pip, ten times as fast
INTEL_MAC = (sys.platform, platform.machine()) == ("darwin", "x86_64")


def check_python():
    """Stop with one sentence if TensorFlow has no wheel for this Python."""
    version = sys.version_info[:2]
    if not (3, 11) <= version <= (3, 12 if INTEL_MAC else 13):
        wanted = "3.11 or 3.12 (on Intel Macs)" if INTEL_MAC else "3.11, 3.12 or 3.13"
        call = "py -3.12 labs.py" if os.name == "nt" else "python3.12 labs.py"
        mend = "install Python 3.12 from python.org if you have none of these, and then type `%s`." % call
        sys.exit("The labs need Python %s, but %s is Python %d.%d: " % ((wanted, sys.executable) + version) + mend)


def read(path):
    """Return the bytes of a file; none if there is no such file."""
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as file:
        return file.read()


def run(what, command):
    """Run an installer in .venv; return the last thing that it had to say if it failed, else nothing."""
    print("Installing %s ..." % what)
    sys.stdout.flush()
    # Whatever pip is told elsewhere about where to install holds for other folders; mirrors, proxies and certificates
    # are respected.
    environment = dict(os.environ, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", VIRTUAL_ENV=VENV)
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_DRY_RUN", "PIP_CONSTRAINT", "UV_CONSTRAINT", "UV_TARGET"):
        environment.pop(name, None)
    with open(LOG, "ab") as log:
        log.write(("\n$ %s\n" % " ".join(command)).encode("utf-8", "replace"))
        log.flush()
        status = subprocess.call(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if not status:
        return ""
    said = [line.strip() for line in read(LOG).decode("utf-8", "replace").splitlines() if "error" in line.lower()]
    return (said or ["see " + LOG])[-1]


def install(what, *arguments):
    """Install into .venv with uv, or where that does not work, with pip; stop with one sentence if neither does."""
    pip = [PYTHON, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    uv = [PYTHON, "-I", "-m", "uv", "pip", "install", "--quiet", "--python", PYTHON]
    if not subprocess.call([PYTHON, "-I", "-c", "import uv"], stderr=subprocess.DEVNULL):
        failed = run(what, uv + list(arguments))
        if not failed:
            return
        print("uv could not do it (%s), so pip tries, which takes longer." % failed)
    failed = run(what, pip + list(arguments))
    if failed:
        mend = "check the internet connection and that 3 GB of disk are free, then run the same command again."
        sys.exit("The packages could not be installed (%s): %s All that was said is in %s." % (failed, mend, LOG))


def warm_up():
    """Let Python compile what a lab imports, in the background: else the first cell of the first lab would do it."""
    code = "from labkit import plots, session, stats, study; session.start(0)"
    options = {"creationflags": 0x08000000} if os.name == "nt" else {"start_new_session": True}  # without a window
    with open(os.devnull, "r+b") as nowhere:
        subprocess.Popen([PYTHON, "-I", "-c", code], cwd=VENV, stdin=nowhere, stdout=nowhere, stderr=nowhere, **options)


def set_up():
    """Make .venv, or bring it up to date with the lock, unless its stamp says that nothing has changed."""
    lock = read(os.path.join(ROOT, "requirements.txt")) + read(os.path.join(ROOT, "pyproject.toml"))
    base = ("Python %d.%d in %s\n" % (sys.version_info[:2] + (ROOT,))).encode("utf-8")
    stamp = base + hashlib.sha256(lock).hexdigest().encode("utf-8")
    found = read(STAMP) if os.path.exists(PYTHON) else b""
    if found == stamp:
        return
    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        mend = "on Debian and Ubuntu `sudo apt install python%d.%d-venv` adds what is missing." % sys.version_info[:2]
        sys.exit("This Python cannot make virtual environments: " + mend)
    print("Setting up the labs in .venv: up to 5 minutes and about 2 GB of disk the first time.")
    # The stamp goes first and comes back last: whatever stops a set-up half-way, the next one starts afresh.
    if os.path.exists(STAMP):
        os.remove(STAMP)
    if not found.startswith(base):
        venv.create(VENV, clear=True, symlinks=os.name != "nt", with_pip=True)
    if subprocess.call([PYTHON, "-I", "-c", "import uv"], stderr=subprocess.DEVNULL):
        run("uv", [PYTHON, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", UV])
    install("the packages of requirements.txt", "-r", "requirements.txt")
    install("labkit", "--no-deps", "--no-build-isolation", "--editable", ".")
    warm_up()
    with open(STAMP, "wb") as file:
        file.write(stamp)


def hand_over(arguments):
    """Become the `labs` command; Windows cannot do that, so there run it and pass its exit status on."""
    command = [PYTHON, "-P", "-m", "labtools.cli"] + arguments
    # In JupyterLab's terminals, `labs` is then a command of its own; and a tick can be printed on every Windows.
    os.environ["PATH"] = os.path.dirname(PYTHON) + os.pathsep + os.environ.get("PATH", "")
    os.environ.setdefault("PYTHONUTF8", "1")
    if os.name != "nt":
        os.execv(PYTHON, command)
    labs = subprocess.Popen(command)
    while True:
        try:
            sys.exit(labs.wait())
        except KeyboardInterrupt:
            pass  # `labs` was sent this Ctrl-C too, and decides what it means


if __name__ == "__main__":
    check_python()
    os.environ.pop("PYTHONPATH", None)  # packages from elsewhere must not hide those in .venv
    try:
        set_up()
    except KeyboardInterrupt:
        sys.exit("Stopped: run the same command again to go on.")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        mend = "put the project into a folder that you may write to, with 3 GB free and no : or ; in its path, "
        mend += "and run the same command again."
        sys.exit("The labs could not be set up (%s): %s" % (error, mend))
    hand_over(sys.argv[1:])
