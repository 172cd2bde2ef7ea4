"""What this machine has to give: cores, free memory, and the environment of a process that computes."""

import contextlib
from pathlib import Path

LAB_GB = 1.5  # memory that a lab, or one training run, may need
# Public settings that keep TensorFlow small. Its own allocator for oneDNN never gives memory back; the system's does.
# And the C library takes memory from so many places, instead of from eight for each core, each with its own gaps.
SMALL = {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1", "MALLOC_ARENA_MAX": "2"}


def default_jobs(gb: float = LAB_GB) -> int:
    """How many tasks of `gb` GB to run side by side: one per core, as long as the free memory has room for them."""
    import joblib

    return max(1, min(joblib.cpu_count(), int(free_memory_gb() / gb)))


def free_memory_gb() -> float:
    """Free memory in GB: of the machine, or what the tightest limit leaves that holds for this process."""
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_in_groups()])) / 1e9


def environment(threads: int | None = None) -> dict[str, str]:
    """The environment variables of a headless kernel; `threads` limits what one kernel computes with."""
    settings = {"LABKIT_LIVE": "0", **SMALL}
    if threads:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        settings |= dict.fromkeys(names, str(threads))
    return settings


def _left_in_groups(root="/sys/fs/cgroup", own="/proc/self/cgroup"):
    """Bytes that each limit on a control group of this process leaves: none where there are no such limits.

    A container's limit stands at the root, that of a service (systemd, Slurm) in the group that the process is in, or
    above it. Version 1 has a tree of its own for memory, and other names.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path(own).read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers == "":
                tree, limits, names = root, ("memory.max", "memory.high"), ("memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                tree, limits = f"{root}/memory", ("memory.limit_in_bytes",)
                names = ("memory.usage_in_bytes", "total_inactive_file")
            else:
                continue
            folder = Path(tree + group)
            while folder.is_relative_to(tree):
                yield from (left for limit in limits if (left := _left(folder / limit, *names)) is not None)
                folder = folder.parent


def _left(limit, used, files):
    """Bytes that one limit leaves; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        left = int(limit.read_text()) - int(limit.with_name(used).read_text())  # "max" is no number
        with contextlib.suppress(OSError, ValueError):
            stat = limit.with_name("memory.stat").read_text().split()
            left += int(stat[stat.index(files) + 1])  # cached files make way
        return left
    return None
