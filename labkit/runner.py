"""Runs labs headless and side by side: every code cell in a fresh kernel of this Python, measured."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
CELL_SECONDS = 600  # a cell that takes longer is stuck
SAMPLE_SECONDS = 0.15  # between two looks at a kernel's memory
LAB_GB = 1.5  # what a lab may need, so how many fit side by side


@dataclass
class Result:
    """What came of one lab; `failure` is one sentence, or None if every cell ran."""

    name: str
    cells: int
    claims: int
    seconds: float
    peak_mb: int
    failure: str | None


def find_labs(numbers=()):
    """Return the notebooks with these numbers, such as ["1", "06"], in the order of their names; all if none is given.

    Raises LabError if there is no such lab, or no notebooks at all.
    """
    every = {path.stem.split("_")[0]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not every:
        raise LabError(f"There are no labs in {NOTEBOOKS}: clone the project and use the `labs` command of that copy.")
    wanted = {number.split("_")[0].zfill(2) for number in numbers} or set(every)
    if missing := sorted(wanted - set(every)):
        raise LabError(f"There is no lab {', '.join(missing)}: choose from {', '.join(every)}.")
    return [every[number] for number in every if number in wanted]


def default_jobs(gb=LAB_GB):
    """How many tasks of `gb` GB to run side by side: one per core, as long as the free memory has room for them."""
    import joblib

    return max(1, min(joblib.cpu_count(), int(free_memory_gb() / gb)))


def free_memory_gb():
    """Free memory in GB; in a container (Binder, Docker) what its limit leaves."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        files = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        free = min(free, limit - used + int(files))  # cached files make way
    return free / 1e9


def kernel_settings(threads=None):
    """Return the environment variables of a headless kernel; `threads` limits what one kernel computes with."""
    settings = {"LABKIT_LIVE": "0"}
    if threads:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        settings |= dict.fromkeys(names, str(threads))
    return settings


def fix_home():
    """Give processes to come a home where the system knows of none, as in some containers: Jupyter insists on one.

    Raises LabError if the folder that would do is somebody else's, who could let code run in it.
    """
    try:
        Path.home()
    except RuntimeError:
        if os.name == "nt":  # there, HOME is not where Python looks
            return
        folder = Path(tempfile.gettempdir()) / f"labs-home-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise LabError(f"You have no home folder, and {folder} is not yours: set HOME to a folder.") from None
        os.environ["HOME"] = str(folder)


def fix_data_path():
    """Make a relative LABKIT_DATA absolute, because kernels run in the notebooks' folder, not where the user is."""
    chosen = os.environ.get("LABKIT_DATA", "").strip()
    if chosen and chosen != "digits":
        path = Path(chosen).expanduser()
        os.environ["LABKIT_DATA"] = str(path.absolute() if path.exists() else ROOT / path)


def run(paths, jobs, threads=None, save=False, report=print):
    """Run notebooks and return their Results in the order of `paths`.

    paths: notebooks, as `find_labs` returns them.
    jobs: how many to run at a time; with more than one, each kernel gets one thread unless `threads` says otherwise.
    threads: threads per kernel; None leaves that to the libraries.
    save: store the outputs in the notebooks that ran without a failure.
    report: called with each Result as soon as it is there.
    """
    if threads is None and min(jobs, len(paths)) > 1:
        threads = 1
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(_run_all(paths, jobs, os.environ | kernel_settings(threads), save, report))


class Loop(asyncio.SelectorEventLoop):
    """Leaves Ctrl-C to asyncio, which stops every lab: nbclient's own handler would stop only one of them."""

    def add_signal_handler(self, *_):
        raise NotImplementedError


async def _run_all(paths, jobs, environment, save, report):
    places = asyncio.Semaphore(jobs)

    async def one(path):
        async with places:
            result = await _run_lab(path, environment, save)
        report(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(path)) for path in paths]
    return [task.result() for task in tasks]


async def _run_lab(path, environment, save):
    import nbclient
    import nbformat
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        notebook = nbformat.read(path, as_version=4)
    except ValueError:  # not JSON, as after a merge conflict
        return Result(path.stem, 0, 0, 0.0, 0, f"the file is no notebook: see `git diff {path.name}`.")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:  # what an earlier run printed is no claim of this one
        cell.update(outputs=[], execution_count=None)
    at = {}  # the cell being run
    client = nbclient.NotebookClient(
        notebook,
        km=kernel_manager(),
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        shutdown_kernel="immediate",  # a polite request is sometimes missed, and then waited for
        on_cell_start=lambda cell, cell_index: at.update(cell=cell),
    )
    peak = [0]
    watch = asyncio.create_task(_watch_memory(client, peak))
    start = time.perf_counter()
    failure = None
    try:
        await client.async_execute(env=environment, stderr=subprocess.DEVNULL, cleanup_kc=True)
    except CellExecutionError as error:
        # A claim that fails has said all there is to say; of other errors the kind helps too.
        first_line = error.evalue.strip().partition("\n")[0]
        failure = first_line if error.ename == "ClaimFailed" else f"{error.ename}: {first_line}".rstrip(": ")
    except CellTimeoutError:
        failure = f"The cell was stopped after {CELL_SECONDS} seconds."
    except DeadKernelError:
        if asyncio.current_task().cancelling():  # Ctrl-C: nbclient takes the end of its task for that of its kernel
            raise asyncio.CancelledError from None
        failure = "The kernel died, most likely because the memory ran out; close other programs or use --jobs 1."
    except RuntimeError as error:
        failure = f"The kernel did not start ({error}); `labs doctor` says more."
    finally:
        watch.cancel()
    if failure and "cell" in at:
        failure = f"cell {at['cell'].id}: {failure}"
    if save and not failure:
        try:
            _save(notebook, path)
        except OSError as error:
            failure = f"Its outputs could not be saved ({error.strerror or error}), so the file is as it was."
    seconds = time.perf_counter() - start
    return Result(path.stem, len(code), _count_claims(code), seconds, round(peak[0] / 1e6), failure)


def kernel_manager():
    """A manager whose kernel is this Python, whatever else the user has installed under the name python3."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    return AsyncKernelManager(kernel_spec_manager=ThisPython())


async def _watch_memory(client, peak):
    """Keep in peak[0] the most bytes that the kernel and its child processes have held together."""
    import psutil

    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
        if pid is None:
            continue
        with contextlib.suppress(psutil.Error):  # processes end while we look at them
            kernel = psutil.Process(pid)
            total = 0
            for process in (kernel, *kernel.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += peak_memory(process)
            peak[0] = max(peak[0], total)


def peak_memory(process):
    """Bytes of memory that a psutil.Process has held at most, which Linux remembers; elsewhere, what it holds now."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return process.memory_info().rss


def _count_claims(code):
    outputs = [output for cell in code for output in cell.outputs if output.get("name") == "stdout"]
    return sum(line.startswith("✓ ") for output in outputs for line in output.text.splitlines())


def _save(notebook, path):
    """Write the outputs, without what differs from machine to machine and tells a reader nothing: all or nothing."""
    import nbformat

    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    part = path.with_suffix(".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            nbformat.write(notebook, file)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
