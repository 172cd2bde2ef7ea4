"""Runs labs headless and side by side: every code cell in a fresh kernel of this Python, measured."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from labkit import _files, _machine
from labkit.errors import LabError
from labtools import project

CELL_SECONDS = 600  # a cell that takes longer is stuck
SAMPLE_SECONDS = 0.15  # between two looks at a kernel's memory
TOO_OLD = {-getattr(signal, "SIGILL", 4), 0xC000001D}  # how a process ends whose processor lacks an instruction


@dataclass
class Result:
    """What came of one lab; `failure` is one sentence, or None if every cell ran."""

    name: str
    cells: int
    claims: int
    seconds: float
    peak_mb: int
    failure: str | None


def run(paths, jobs, threads=None, save=False, report=print, change=None, data=None):
    """Run notebooks.

    Parameters
    ----------
    paths : list of Path
        Notebooks, as `project.find_labs` returns them.
    jobs : int
        How many to run at a time; with more than one, each kernel gets one thread unless `threads` says otherwise.
    threads : int, optional
        Threads per kernel; None leaves that to the libraries.
    save : bool
        Store the outputs in the notebooks that ran without a failure.
    report : callable
        Called with each Result as soon as it is there.
    change : callable, optional
        Given each notebook before it runs, and changes it; nothing is saved then, and every cell runs, whatever fails.
    data : str, optional
        The value of LABKIT_DATA; None leaves it as it is.

    Returns
    -------
    list of Result
        In the order of `paths`.
    """
    if threads is None and min(jobs, len(paths)) > 1:
        threads = 1
    environment = os.environ | _machine.environment(threads) | ({} if data is None else {"LABKIT_DATA": data})
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(_run_all(paths, jobs, environment, save, report, change))


class _Loop(asyncio.SelectorEventLoop):
    """Leaves Ctrl-C to asyncio, which stops every lab: nbclient's own handler would stop only one of them."""

    def add_signal_handler(self, *_):
        raise NotImplementedError


async def _run_all(paths, jobs, environment, save, report, change):
    places = asyncio.Semaphore(jobs)

    async def one(path):
        async with places:
            result = await _run_lab(path, environment, save, change)
        report(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(path)) for path in paths]
    return [task.result() for task in tasks]


async def _run_lab(path, environment, save, change):
    import nbclient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        notebook = project.read_notebook(path)
    except LabError as error:
        return Result(path.stem, 0, 0, 0.0, 0, str(error))
    if change:
        change(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:  # what an earlier run printed is no claim of this one
        cell.update(outputs=[], execution_count=None)
    at = {}  # the cell being run
    client = nbclient.NotebookClient(
        notebook,
        km=kernel_manager(),
        timeout=CELL_SECONDS,
        allow_errors=change is not None,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        shutdown_kernel="immediate",  # a polite request is sometimes missed, and then waited for
        on_cell_start=lambda cell, cell_index: at.update(cell=cell),
    )
    peak, ended = [0], [None]
    watch = asyncio.create_task(_watch(client, peak, ended))
    start = time.perf_counter()
    failure = None
    try:
        await client.async_execute(env=environment, stderr=subprocess.DEVNULL, cleanup_kc=True)
    except CellExecutionError as error:
        failure = _said(error.ename, error.evalue)
    except CellTimeoutError:
        failure = f"The cell was stopped after {CELL_SECONDS} seconds."
    except DeadKernelError:
        if asyncio.current_task().cancelling():  # Ctrl-C: nbclient takes the end of its task for that of its kernel
            raise asyncio.CancelledError from None
        failure = said_of_death(ended[0])
    except RuntimeError as error:
        failure = f"The kernel did not start ({error}); `labs doctor` says more."
    finally:
        watch.cancel()
    if failure and "cell" in at:
        failure = f"cell {at['cell'].id}: {failure}"
    elif change:
        failure = "; ".join(_errors(code)) or None
    if save and not failure and not change:
        try:
            _save(notebook, path)
        except OSError as error:
            failure = f"Its outputs could not be saved ({error.strerror or error}), so the file is as it was."
    seconds = time.perf_counter() - start
    return Result(path.stem, len(code), _count_claims(code), seconds, round(peak[0] / 1e6), failure)


def said_of_death(status):
    """Why a process with TensorFlow died, as far as its exit status tells, and what to do."""
    if status in TOO_OLD:
        return "The kernel died: this processor is too old for TensorFlow (no AVX). Use Binder or Colab."
    return "The kernel died, most likely because the memory ran out; close other programs or use --jobs 1."


def _said(name, value):
    """An error in one line. A claim that fails has said all there is to say; of other errors the kind helps too."""
    first_line = value.strip().partition("\n")[0]
    return first_line if name == "ClaimFailed" else f"{name}: {first_line}".rstrip(": ")


def _errors(code):
    """Each error in a notebook that ran on after errors, with its cell."""
    for cell in code:
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {cell.id}: {_said(output.ename, output.evalue)}"


def kernel_manager():
    """A manager whose kernel is this Python, whatever else the user has installed under the name python3."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    return AsyncKernelManager(kernel_spec_manager=ThisPython())


async def _watch(client, peak, ended):
    """Keep in peak[0] the most bytes that the kernel and its children held together; in ended[0], how it ended."""
    import psutil

    process = None
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        provisioner = getattr(client.km, "provisioner", None)
        process = getattr(provisioner, "process", None) or process
        if process is not None and process.returncode is not None:
            ended[0] = process.returncode
        pid = getattr(provisioner, "pid", None)
        if pid is None:
            continue
        with contextlib.suppress(psutil.Error):  # processes end while we look at them
            kernel = psutil.Process(pid)
            total = 0
            for one in (kernel, *kernel.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += peak_memory(one)
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
    """Write the outputs, without what differs from machine to machine and tells a reader nothing."""
    import nbformat

    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.language_info = {"name": "python", "file_extension": ".py", "nbconvert_exporter": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    _files.replace(path, nbformat.writes(notebook) + "\n")
