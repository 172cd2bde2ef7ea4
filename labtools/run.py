"""Runs labs headless and side by side: every code cell in a fresh kernel of this Python, measured."""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import tempfile
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


def run(paths, jobs, threads=None, *, save=False, report=print, change=None, data=None):
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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
        # What the user has IPython do elsewhere would change what the cells show.
        environment = os.environ | _machine.environment(threads) | {"IPYTHONDIR": empty, "PYTHONSTARTUP": ""}
        environment |= {} if data is None else {"LABKIT_DATA": data}
        run_one = functools.partial(_run_lab, environment=environment, save=save, change=change)
        with asyncio.Runner(loop_factory=_Loop) as runner:
            return runner.run(_run_all(paths, jobs, report, run_one))


class _Loop(asyncio.SelectorEventLoop):
    """Leaves Ctrl-C to asyncio, which stops every lab: nbclient's own handler would stop only one of them."""

    def add_signal_handler(self, *_):
        raise NotImplementedError


async def _run_all(paths, jobs, report, run_one):
    places = asyncio.Semaphore(jobs)

    async def one(path):
        async with places:
            result = await run_one(path)
        report(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(path)) for path in paths]
    return [task.result() for task in tasks]


async def _run_lab(path, environment, save, change):
    try:
        notebook = project.read_notebook(path)
    except LabError as error:
        return Result(path.stem, 0, 0, 0.0, 0, str(error))
    if change:
        change(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:  # what an earlier run printed is no claim of this one
        cell.update(outputs=[], execution_count=None)
    start = time.perf_counter()
    failure, peak = await _execute(notebook, path.parent, environment, change is not None)
    if change and not failure:
        failure = "; ".join(_errors(code)) or None
    elif save and not failure:
        failure = _save(notebook, path)
    seconds = time.perf_counter() - start
    return Result(path.stem, len(code), _count_claims(code), seconds, round(peak / 1e6), failure)


async def _execute(notebook, folder, environment, to_the_end):
    """Run the cells in a kernel. Return what stopped them, as a sentence or None, and the peak memory in bytes."""
    import nbclient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    failure, seen = None, {"process": None, "peak": 0, "at": "the start of the kernel"}
    client = nbclient.NotebookClient(
        notebook,
        km=kernel_manager(),
        timeout=CELL_SECONDS,
        allow_errors=to_the_end,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        shutdown_kernel="immediate",  # a polite request is sometimes missed, and then waited for
        on_cell_start=lambda cell, cell_index: seen.update(at=f"cell {cell.id}"),
    )
    watch = asyncio.create_task(_watch(client, seen))
    try:
        await client.async_execute(env=environment, stderr=subprocess.DEVNULL, cleanup_kc=True)
    except CellExecutionError as error:
        failure = _said(error.ename, error.evalue)
    except CellTimeoutError:
        failure = f"The cell was stopped after {CELL_SECONDS} seconds."
    except DeadKernelError:
        if asyncio.current_task().cancelling():  # Ctrl-C: nbclient takes the end of its task for that of its kernel
            raise asyncio.CancelledError from None
        failure = said_of_death(seen["process"] and seen["process"].poll())
    except Exception as error:  # no room for a process or a file, a kernel that does not answer
        failure = f"It could not go on ({_said(type(error).__name__, str(error))}); `labs doctor` says more."
    finally:
        watch.cancel()
    return failure and f"{seen['at']}: {failure}", seen["peak"]


def said_of_death(status):
    """Why a process with TensorFlow died, as far as its exit status tells, and what to do."""
    if status in TOO_OLD:
        return "The kernel died: this processor is too old for TensorFlow (no AVX). Use Binder or Colab."
    if status in {None, -9}:  # killed from outside, as Linux does where the memory ends
        return "The kernel died, most likely because the memory ran out: close other programs, or use --jobs 1."
    return f"The kernel ended with exit status {status}: if the cell does not end it, see what `labs doctor` says."


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


async def _watch(client, seen):
    """Note the kernel's process in `seen`, and the most bytes that it and its children held together."""
    import psutil

    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        seen["process"] = getattr(getattr(client.km, "provisioner", None), "process", None) or seen["process"]
        with contextlib.suppress(psutil.Error, AttributeError):  # not there yet, or not any more
            kernel = psutil.Process(seen["process"].pid)
            seen["peak"] = max(seen["peak"], sum(map(peak_memory, (kernel, *kernel.children(recursive=True)))))


def peak_memory(process):
    """Bytes of memory that a psutil.Process has held at most, which Linux remembers; elsewhere, what it holds now."""
    import psutil

    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def _count_claims(code):
    outputs = [output for cell in code for output in cell.outputs if output.get("name") == "stdout"]
    return sum(line.startswith("✓ ") for output in outputs for line in output.text.splitlines())


def _save(notebook, path):
    """Write the outputs, without what differs from machine to machine and tells a reader nothing.

    Returns what went wrong, as a sentence; None if nothing did.
    """
    import nbformat

    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.language_info = {"name": "python", "file_extension": ".py", "nbconvert_exporter": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    try:
        _files.replace(path, nbformat.writes(notebook) + "\n")
    except OSError as error:
        return f"Its outputs could not be saved ({error.strerror or error}), so the file is as it was."
    return None
