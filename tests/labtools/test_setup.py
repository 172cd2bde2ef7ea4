"""Every way of setting the labs up gives the same thing, and labs.py recovers from what goes wrong."""

import ast
import contextlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = {
    name: [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and line[0] != "#"]
    for name in ("requirements.txt", "requirements-dev.txt")
}
SYSTEMS = {
    "Linux": {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"},
    "Linux on Arm": {"sys_platform": "linux", "platform_machine": "aarch64", "os_name": "posix"},
    "Mac": {"sys_platform": "darwin", "platform_machine": "arm64", "os_name": "posix"},
    "Intel Mac": {"sys_platform": "darwin", "platform_machine": "x86_64", "os_name": "posix"},
    "Windows": {"sys_platform": "win32", "platform_machine": "AMD64", "os_name": "nt"},
}
PYTHONS = {"Intel Mac": ("3.11", "3.12")}  # elsewhere 3.13 too
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX only")
install = pytest.mark.slow


# ---- The files agree ---------------------------------------------------------------------------------------


def conda_file(path):
    """Return an environment file's (conda dependencies, pip lines)."""
    dependencies = yaml.safe_load((ROOT / path).read_text("utf-8"))["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return [entry for entry in dependencies if isinstance(entry, str)], pip


@pytest.mark.parametrize("path", ["environment.yml", "binder/environment.yml"])
def test_conda_gives_python_and_pip_and_pip_gives_the_lock_and_this_project(path):
    conda, pip = conda_file(path)
    assert conda == ["python=3.12", "pip"]
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.12")
    (lock_option, lock), (project_option, project) = (line.split() for line in pip)
    assert (lock_option, project_option) == ("-r", "-e")
    # conda runs pip in the folder of the environment file.
    folder = (ROOT / path).parent
    assert (folder / lock).resolve() == ROOT / "requirements.txt"
    assert (folder / project).resolve() == ROOT


def test_both_environment_files_have_the_same_name_and_channels():
    files = [yaml.safe_load((ROOT / path).read_text("utf-8")) for path in ("environment.yml", "binder/environment.yml")]
    assert [(file["name"], file["channels"]) for file in files] == [("nn-labs", ["conda-forge"])] * 2


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_has_one_allowed_version_of_every_dependency_on_every_system(system):
    lock = [Requirement(line) for line in LOCKS["requirements.txt"]]
    for python in PYTHONS.get(system, ("3.11", "3.12", "3.13")):
        here = SYSTEMS[system] | {"python_version": python, "python_full_version": f"{python}.1"}
        locked = {}
        for entry in lock:
            if entry.marker is None or entry.marker.evaluate(here):
                assert canonicalize_name(entry.name) not in locked, f"two versions of {entry.name}"
                locked[canonicalize_name(entry.name)] = next(iter(entry.specifier)).version
        for text in PROJECT["dependencies"]:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate(here):
                assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), text
        assert {"tensorflow", "tensorflow-cpu"} & set(locked), "no TensorFlow"
        assert "setuptools" in locked, "labs.py installs labkit with the setuptools of the lock"


def test_what_students_do_not_need_comes_in_the_same_versions_as_the_rest():
    assert set(LOCKS["requirements.txt"]) < set(LOCKS["requirements-dev.txt"])
    names = {Requirement(line).name for line in LOCKS["requirements.txt"]}
    assert not names & {"pytest", "ruff", "nbval", "distributed", "import-linter"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_exact_versions_and_names_no_package_host(name):
    for line in LOCKS[name]:
        requirement = Requirement(line)  # not an option, an address or a path
        assert requirement.url is None, line
        assert [part.operator for part in requirement.specifier] == ["=="], line
        assert "*" not in str(requirement.specifier) and "--" not in line, line
    assert "://" not in (ROOT / name).read_text("utf-8")


@posix_only
@pytest.mark.parametrize("path", ["binder/postBuild", "binder/start", ".ci/run"])
def test_shell_scripts_can_be_run(path):
    assert os.access(ROOT / path, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / path], check=True)


@posix_only
def test_binder_start_becomes_the_command_that_it_is_given():
    assert (ROOT / "binder" / "start").read_text("utf-8").rstrip().endswith('\nexec "$@"')
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "MALLOC_ARENA_MAX")
    run = [ROOT / "binder" / "start", sys.executable, "-c", f"import os; print(*map(os.environ.get, {names}))"]
    bare = {name: value for name, value in os.environ.items() if not name.endswith(("_THREADS", "_MAX"))}
    assert subprocess.run(run, check=True, capture_output=True, text=True, env=bare).stdout == "1 1 1 2\n"


@posix_only
@pytest.mark.parametrize("status", [0, 1])
def test_binder_is_built_with_and_without_a_network(status, tmp_path):
    labs = tmp_path / "labs"
    labs.write_text(f'#!/bin/sh\necho "called: $*"\nexit {status}\n', encoding="utf-8")
    labs.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        [ROOT / "binder" / "postBuild"], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("called: data --fetch\n")
    assert ("could not be fetched" in run.stdout) == bool(status)


# ---- labs.py, with a pip that installs a labkit which only repeats its arguments ----------------------------

DRIVER = r"""
import ensurepip, os, pathlib, platform, runpy, sys, venv
real_create = venv.create
def create(folder, with_pip, **options):
    if fake == "disk full":
        raise OSError(28, "No space left on device")
    if fake.startswith("Python "):
        raise OSError("this Python would do")
    real_create(folder, with_pip=False, **options)
    site = next(pathlib.Path(folder).glob("[Ll]ib/**/site-packages"))
    (site / "pip").mkdir()
    (site / "pip" / "__main__.py").write_text(os.environ["FAKE_PIP"])
venv.create = create
fake = os.environ.get("FAKE", "")
if fake == "no ensurepip":
    sys.modules["ensurepip"] = None
if fake.startswith("Python "):
    sys.version_info = (*map(int, fake.split()[1].split(".")), 0, "final", 0)
if fake.endswith("Intel Mac"):
    sys.platform, platform.machine = "darwin", lambda: "x86_64"
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# What pip installs: a uv that does the same under its own name, or a labkit that only repeats its arguments.
FAKE_PIP = r"""
import os, pathlib, sys, time
me = pathlib.Path(__file__).parent
fake = os.environ.get("FAKE")
with open("pip-calls.txt", "a") as calls:
    calls.write(" ".join([me.name, *sys.argv[1:]]) + "\n")
    calls.write("".join(f"{name}={os.environ[name]}\n" for name in ("PIP_TARGET",) if name in os.environ))
for_uv = sys.argv[-1].startswith("uv==")
if fake == "no network" or (fake == "no uv" and for_uv) or (fake == "bad uv" and me.name == "uv"):
    print("WARNING: retrying\nERROR: no version (from versions: none)\nERROR: No matching distribution for spam==1")
    sys.exit(1)
while fake == "slow" and not os.path.exists("go-on"):
    time.sleep(0.05)
if sys.argv[-1].startswith("uv=="):
    (me.parent / "uv").mkdir()
    (me.parent / "uv" / "__main__.py").write_text(pathlib.Path(__file__).read_text())
    (me.parent / "uv" / "__init__.py").touch()
if "--editable" in sys.argv:
    (me.parent / "labtools").mkdir(exist_ok=True)
    (me.parent / "labtools" / "cli.py").write_text(
        "import os, sys; print('labs', sys.argv[1:], os.environ.get('PYTHONPATH')); sys.exit(3)"
    )
"""


class Project:
    """A copy of labs.py in a folder of its own (with a space and an é), and ways to call it."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        shutil.copy(ROOT / "labs.py", folder)
        (folder / "requirements.txt").write_text("spam==1\n", encoding="utf-8")
        (folder / "pyproject.toml").write_text("[project]\n", encoding="utf-8")

    def start(self, *arguments, fake=""):
        environment = os.environ | {"FAKE": fake, "FAKE_PIP": FAKE_PIP, "PYTHONUTF8": "1"}
        command = [sys.executable, "-c", DRIVER, self.folder / "labs.py", *arguments]
        return subprocess.Popen(
            command, env=environment, text=True, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def call(self, *arguments, fake=""):
        """Return (exit status, standard output, standard error)."""
        process = self.start(*arguments, fake=fake)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def pip_calls(self):
        path = self.folder / "pip-calls.txt"
        return path.read_text("utf-8").splitlines() if path.exists() else []


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "mes étés")


@pytest.fixture
def ready(project):
    """A project that has been set up, with a file in .venv by which to see whether it is made anew."""
    assert project.call()[0] == 3
    (project.folder / "pip-calls.txt").unlink()
    (project.folder / ".venv" / "mark").touch()
    return project


def made_anew(project):
    return not (project.folder / ".venv" / "mark").exists()


def is_one_sentence(text):
    return text.count("\n") == 1 and text.endswith(".\n") and "Traceback" not in text


def test_the_first_call_sets_up_with_uv_and_hands_its_arguments_over(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(project.folder))
    monkeypatch.setenv("PIP_TARGET", str(project.folder / "elsewhere"))
    status, out, err = project.call("run", "06 x", "--save")
    assert (status, err) == (3, "")
    assert "minutes" in out.splitlines()[0]
    assert out.splitlines()[-1] == "labs ['run', '06 x', '--save'] None", "arguments as given; no PYTHONPATH"
    uv, lock, labkit = project.pip_calls()
    assert uv.startswith("pip install") and "uv==" in uv
    assert lock.startswith("uv pip install") and lock.endswith("-r requirements.txt")
    assert labkit.startswith("uv pip install") and "--no-deps" in labkit and labkit.endswith("--editable .")


@pytest.mark.parametrize("fake", ["no uv", "bad uv"])
def test_without_uv_pip_does_it(project, fake):
    status, out, err = project.call(fake=fake)
    assert (status, err) == (3, "")
    assert [call.split()[0] for call in project.pip_calls() if call.endswith("-r requirements.txt")][-1] == "pip"
    assert ("pip tries" in out) == (fake == "bad uv")


def test_a_second_call_only_hands_over(ready):
    assert ready.call("doctor") == (3, "labs ['doctor'] None\n", "")
    assert ready.pip_calls() == [] and not made_anew(ready)


@pytest.mark.parametrize("path", ["requirements.txt", "pyproject.toml"])
def test_a_changed_lock_is_installed_into_the_same_environment(ready, path):
    with open(ready.folder / path, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert ready.call()[0] == 3
    assert len(ready.pip_calls()) == 2 and not made_anew(ready)


def break_interpreter(folder):
    python = folder / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.unlink()
    if os.name != "nt":
        python.symlink_to(folder / "no-such-python")


def other_python(folder):
    stamp = folder / ".venv" / "labs-stamp.txt"
    stamp.write_text(stamp.read_text("utf-8").replace("Python 3.", "Python 9."), encoding="utf-8")


def half_made(folder):
    (folder / ".venv" / "labs-stamp.txt").unlink()


@pytest.mark.parametrize("harm", [break_interpreter, other_python, half_made])
def test_a_broken_environment_is_made_anew(ready, harm):
    harm(ready.folder)
    assert ready.call()[0] == 3
    assert len(ready.pip_calls()) == 3 and made_anew(ready)


def test_a_project_that_was_moved_is_set_up_anew(ready):
    ready.folder = ready.folder.rename(ready.folder.parent / "elsewhere")
    assert ready.call()[0] == 3
    assert made_anew(ready)


def test_a_failed_download_is_one_sentence_and_the_next_call_recovers(project):
    status, out, err = project.call(fake="no network")
    assert status == 1 and is_one_sentence(err)
    assert "No matching distribution for spam==1" in err and "internet" in err
    assert "labs [" not in out
    assert project.call("run")[0] == 3


def test_a_failed_update_is_not_taken_for_a_finished_one(ready):
    (ready.folder / "requirements.txt").write_text("spam==2\n", encoding="utf-8")
    assert ready.call(fake="no network")[0] == 1
    (ready.folder / "requirements.txt").write_text("spam==1\n", encoding="utf-8")
    assert ready.call()[0] == 3
    assert made_anew(ready)


@posix_only
def test_a_killed_set_up_is_done_again(project):
    first = project.start(fake="slow")
    end = time.monotonic() + 60
    while not project.pip_calls():
        assert first.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    first.kill()
    first.wait()
    (project.folder / "go-on").touch()  # its pip ends
    first.communicate()
    second = project.start("run")
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (3, "")
    assert len(project.pip_calls()) == 4 and out.endswith("labs ['run'] None\n")


@pytest.mark.parametrize(
    "fake, words",
    [
        ("no ensurepip", "sudo apt install python{0}.{1}-venv"),
        ("disk full", "No space left on device"),
        ("Python 2.7", "is Python 2.7: install Python 3.12"),
        ("Python 3.10", "3.11, 3.12 or 3.13"),
        ("Python 3.14", "3.11, 3.12 or 3.13"),
        ("Python 3.15", "py -3.12 labs.py" if os.name == "nt" else "python3.12 labs.py"),
        ("Python 3.13 on an Intel Mac", "3.11 or 3.12"),
    ],
)
def test_what_labs_py_cannot_mend_is_one_sentence(project, fake, words):
    status, out, err = project.call(fake=fake)
    assert status == 1 and is_one_sentence(err)
    assert words.format(*sys.version_info) in err
    assert "labs [" not in out and not project.pip_calls()


@pytest.mark.parametrize("fake", ["Python 3.11", "Python 3.13", "Python 3.12 on an Intel Mac"])
def test_every_python_that_tensorflow_supports_will_do(project, fake):
    assert "this Python would do" in project.call(fake=fake)[2]


def test_an_old_python_could_read_labs_py():
    source = (ROOT / "labs.py").read_text("utf-8")
    assert source.isascii()
    for node in ast.walk(ast.parse(source, feature_version=(3, 4))):
        assert not isinstance(node, ast.JoinedStr | ast.NamedExpr | ast.AnnAssign | ast.Starred) or (
            isinstance(node, ast.Starred) and isinstance(node.value, ast.IfExp)  # the only * is in a call
        ), f"line {node.lineno}"
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None and not node.args.kwonlyargs


def test_a_folder_in_which_no_environment_can_be_made_is_one_sentence(tmp_path):
    project = Project(tmp_path / "week 1: labs")
    status, _, err = project.call(fake="real create")
    assert status == 1 and is_one_sentence(err) and "no : or ; in its path" in err


# ---- Real installations, once, in .ci/run -------------------------------------------------------------------


def fresh_environment(folder):
    """Make a virtual environment; return a function that runs its Python and returns what that printed."""
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def run(*arguments, cwd=folder, may_fail=False):
        done = subprocess.run([python, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
        assert may_fail or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return run


@install
def test_the_pip_part_of_environment_yml_installs_into_a_fresh_environment(tmp_path):
    """As conda does it: a requirements file beside environment.yml, and pip run in that folder."""
    python = fresh_environment(tmp_path / "env")
    lines = ROOT / f"condaenv.{os.getpid()}.requirements.txt"
    try:
        lines.write_text("\n".join(conda_file("environment.yml")[1]), encoding="utf-8")
        python("-m", "pip", "install", "-q", "-U", "-r", lines, "--exists-action=b", cwd=ROOT)
    finally:
        lines.unlink()
    assert python("-c", "import labkit; print(labkit.__file__)").strip() == str(ROOT / "labkit" / "__init__.py")
    report = python("-m", "labtools.cli", "doctor", may_fail=True)
    good = {line.split()[1] for line in report.splitlines() if line.startswith("✓")}
    assert {"Python", "packages", "labkit", "kernel", "TensorFlow"} <= good, report
    shutil.rmtree(tmp_path / "env")  # 2 GB


@install
@posix_only
def test_repo2docker_understands_the_binder_folder(tmp_path):
    """Its no-build mode prints the Dockerfile, without Docker."""
    python = fresh_environment(tmp_path / "env")
    python("-m", "pip", "install", "-q", "jupyter-repo2docker")
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(ROOT / "binder", copy / "binder")
    for name in ("pyproject.toml", "requirements.txt", "environment.yml"):
        shutil.copy(ROOT / name, copy)
    command = ["-m", "repo2docker", "--no-build", "--debug", "--Repo2Docker.default_buildpack=None", "."]
    with contextlib.chdir(copy):
        done = subprocess.run(
            [tmp_path / "env" / "bin" / "python", *command], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout + done.stderr
    assert "conda environment for python=3.12" in said
    # The source is there before pip installs from it, and MNIST is fetched after that.
    steps = ["COPY --chown=0:0 src/", '--file "binder/environment.yml"', "RUN ./binder/postBuild", "/binder/start"]
    places = [said.index(step) for step in steps]
    assert places == sorted(places)
