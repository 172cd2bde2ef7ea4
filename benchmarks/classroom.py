"""Measures what a classroom on one hub costs, and works out how many students a machine holds.

    labs bench classroom             each lab alone, then 2, 4 and 8 kernels of lab 03 at once: a quarter of an hour
    labs bench classroom --lab 02    the same with another lab at once
    labs bench classroom --quick     lab 06 only, on the digits, and nothing is kept: under a minute

Every kernel computes with one thread, as a hub's users do. Reads /proc, so it needs Linux. Keep the machine quiet.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import record

from labkit import links, runner, stress
from labkit.errors import LabError

README = links.ROOT / "classroom" / "README.md"

AT_ONCE = (2, 4, 8)  # kernels side by side, to check the model
TOGETHER, QUICK = "03", "06"  # the lab of these kernels; with --quick
SAMPLE_SECONDS = 0.5
START_SECONDS = 60  # within which JupyterLab's server answers

SYSTEM_GB = 1.5  # the operating system and the hub itself
HUB_MB = 20  # that JupyterLab's server is larger when a hub starts it: 95 against 75, with JupyterHub 6.1
BINDER_MB = 2000  # what Binder gives one user
BUSY = 0.5  # share of the cores that everyday use may take; the rest is for bursts
WINDOW_MINUTES = 5  # in which the whole class presses Run All
MACHINES = ((2, 8), (4, 16), (8, 32), (16, 64), (32, 128))  # cores, GB
CLASS = 30


# What one kernel costs ------------------------------------------------------------------------------------------------


class Watch:
    """While its block runs, follows the memory and the processor time of this process's kernels.

    Afterwards, in MB: `rss`, the largest resident memory of one kernel; `shared`, how much of that were pages of files
    (libraries, above all), which kernels have in common; `pss`, the most that all kernels took together, a page that
    several of them share counted once. `cpu` is what all of them computed, in seconds. What a kernel's child
    processes take is counted with the kernel.
    """

    def __init__(self):
        self.rss = self.shared = self.pss = self.cpu = 0.0
        self._sampled = {}  # kernel's number -> processor seconds at the last look
        self._end = threading.Event()

    def __enter__(self):
        self._before = _reaped_seconds()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        # The exact sum of the kernels that have ended misses children that outlived them; a look does not.
        self.cpu = max(_reaped_seconds() - self._before, sum(self._sampled.values()))

    def _follow(self):
        import psutil

        pause = SAMPLE_SECONDS
        while not self._end.wait(pause):
            start, together = time.thread_time(), 0.0
            for kernel in psutil.Process().children():
                with contextlib.suppress(psutil.Error, OSError):  # processes end while we look at them
                    if "ipykernel_launcher" in kernel.cmdline():
                        together += self._look(kernel)
            self.pss = max(self.pss, together)
            # The system walks through all of a kernel's pages for us: that may take a twentieth of a core, not more.
            pause = max(SAMPLE_SECONDS, 20 * (time.thread_time() - start))

    def _look(self, kernel):
        import psutil

        rss = shared = pss = cpu = 0.0
        for process in (kernel, *kernel.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                memory = _memory(process.pid)
                times = process.cpu_times()
                # A child that was waited for is in its parent's children_user; a living one is in this loop.
                cpu += times.user + times.system + times.children_user + times.children_system
                rss, shared, pss = rss + memory["rss"], shared + memory["shared"], pss + memory["pss"]
        self.rss, self.shared = max(self.rss, rss), max(self.shared, shared)
        self._sampled[kernel.pid] = max(cpu, self._sampled.get(kernel.pid, 0.0))
        return pss


def _memory(pid):
    """Memory of one process in MB: `rss`, its resident peak; `shared`, pages of files; `pss`, its fair share now."""
    status = _kilobytes(f"/proc/{pid}/status")
    rollup = _kilobytes(f"/proc/{pid}/smaps_rollup")
    shared = status.get("RssFile", 0) + status.get("RssShmem", 0)
    return {"rss": status.get("VmHWM", 0) / 1000, "shared": shared / 1000, "pss": rollup["Pss"] / 1000}


def _kilobytes(path):
    """The lines `Name: 123 kB` of a file in /proc, as a dict of kilobytes (of 1000 bytes)."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", Path(path).read_text(), re.MULTILINE)
    return {name: int(value) * 1.024 for name, value in found}


def _reaped_seconds():
    """Processor seconds, user and system, of all children of this process that have ended."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def kernels(path, count=1):
    """Run `count` kernels of one lab at once, one thread each; a row of what they cost.

    In the row: wall_s and wall_max_s, seconds of the first and of the last kernel to end; cpu_s, processor seconds of
    one kernel; rss_mb, own_mb and shared_mb, peak memory of one kernel, and how it divides into what the next kernel
    needs again and what it does not; pss_mb, peak memory of all together.
    Raises LabError if the lab fails.
    """
    with Watch() as watch:
        results = runner.run([path] * count, jobs=count, threads=1, report=lambda _: None)
    if failures := [result.failure for result in results if result.failure]:
        raise LabError(f"{path.stem} failed, so its cost says nothing: {failures[0]}")
    seconds = sorted(result.seconds for result in results)
    row = _row("lab", path.stem, seconds, watch.cpu / count, (watch.rss, watch.shared, watch.pss))
    return row | {"code": stress.digest(path)}


def server():
    """Start one JupyterLab server without a browser, ask for what a browser asks first; a row of its memory."""
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        places = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        command += ["--ServerApp.port=0", f"--ServerApp.root_dir={links.ROOT}", "--ServerApp.log_level=50"]
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=os.environ | dict.fromkeys(places, folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address, token = _started(process, Path(folder))
            seconds = time.perf_counter() - start
            for page in ("lab", "lab/api/settings", "api/contents/notebooks", "api/kernelspecs", "api/sessions"):
                request = urllib.request.Request(address + page, headers={"Authorization": f"token {token}"})
                urllib.request.urlopen(request, timeout=START_SECONDS).read()
            memory = _memory(process.pid)
            times = psutil.Process(process.pid).cpu_times()
        finally:
            process.terminate()
            process.wait()
    sizes = (memory["rss"], memory["shared"], memory["pss"])
    return _row("server", "jupyter lab", [seconds], times.user + times.system, sizes)


def _started(process, folder):
    """Wait until the server answers; its address and token."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
        for file in folder.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, OSError):  # half written, or not answering yet
                found = json.loads(file.read_text("utf-8"))
                request = urllib.request.Request(found["url"] + "api?token=" + found["token"])
                urllib.request.urlopen(request, timeout=5).read()
                return found["url"], found["token"]
    raise LabError("JupyterLab's server did not start, so its memory is not known: try `labs` itself.")


def _row(what, name, seconds, cpu, sizes):
    rss, shared, pss = sizes
    row = {"what": what, "name": name, "data": _data(), "cores": os.cpu_count(), "kernels": len(seconds)}
    row |= {"wall_s": round(seconds[0], 1), "wall_max_s": round(seconds[-1], 1), "cpu_s": round(cpu, 1)}
    return row | {"rss_mb": round(rss), "own_mb": round(rss - shared), "shared_mb": round(shared), "pss_mb": round(pss)}


# What a machine holds -------------------------------------------------------------------------------------------------


def memory_mb(count, kernel, server=None):
    """Memory of `count` students with one kernel each, all at their peak: what is shared once, the rest each time.

    kernel, server: rows as measured alone; without `server`, kernels only, otherwise a hub's server for each.
    """
    shared, own = kernel["shared_mb"], kernel["own_mb"]
    if server:
        shared, own = shared + server["shared_mb"], own + server["own_mb"] + HUB_MB
    return shared + count * own


def two_labs_mb(one, other, server):
    """Memory of one student who has two labs open, both at their peak, beside a server: rows as measured alone."""
    return one["own_mb"] + other["own_mb"] + max(one["shared_mb"], other["shared_mb"]) + server["rss_mb"]


def waits(count, cores, kernel, window_s=0.0):
    """Seconds that each of `count` students waits who press Run All evenly over `window_s` seconds.

    kernel: the lab's row, measured alone. The cores are shared out equally among those who wait, but no kernel runs
    faster than it does alone.
    """
    arrivals = [i * window_s / count for i in range(count)]
    begun, left, found, now = [], [], [], 0.0  # of those who wait: when each pressed, what part of the lab is left
    while len(found) < count:
        speed = _speed(max(1, len(left)), cores, kernel)
        next_in = arrivals[0] - now if arrivals else math.inf
        next_out = left[0] / speed if left else math.inf
        step = min(next_in, next_out)
        now += step
        left = [part - step * speed for part in left]
        if next_in <= next_out:
            begun.append(arrivals.pop(0))
            left.append(1.0)
        else:
            left.pop(0)  # who pressed first is ready first: all advance equally
            found.append(now - begun.pop(0))
    return found


def _speed(count, cores, kernel):
    """Part of the lab that each of `count` kernels does in a second."""
    return min(1 / kernel["wall_s"], cores / (count * kernel["cpu_s"]))


def students(gb, cores, rows, minutes, *, system_gb=SYSTEM_GB, busy=BUSY, window_minutes=WINDOW_MINUTES):
    """How many students a machine holds: a dict of by_memory, by_time, holds (the smaller one) and wait_minutes.

    gb: the machine's memory, in GB of 10^9 bytes. cores: its cores.
    rows: what `main` has measured. minutes: name of a lab -> a student's minutes with it.
    by_memory: everybody has the heaviest lab open, at its peak, beside a JupyterLab server of their own; `system_gb`
        are left to the system.
    by_time: everybody runs the most demanding lab once in its minutes; this takes the part `busy` of the cores.
    wait_minutes: how long the last one waits if `holds` students press Run All within `window_minutes`, in the lab
        that computes longest.
    Raises LabError if no lab was measured.
    """
    labs = _labs(rows)
    kernel = max(labs, key=lambda row: row["own_mb"])
    one_server = _server(rows)
    shared = memory_mb(0, kernel, one_server)
    free = 1000 * (gb - system_gb) - shared
    by_memory = max(0, int(free // (memory_mb(1, kernel, one_server) - shared)))
    load = max(row["cpu_s"] / (60 * minutes[row["name"]]) for row in labs if minutes.get(row["name"]))
    by_time = int(busy * cores / load)
    holds = min(by_memory, by_time)
    slowest = max(labs, key=lambda row: row["cpu_s"])
    wait = max(waits(holds, cores, slowest, 60 * window_minutes), default=0.0) / 60
    return {"by_memory": by_memory, "by_time": by_time, "holds": holds, "wait_minutes": wait}


def _labs(rows):
    """The rows of labs that ran alone."""
    found = [row for row in rows if row["what"] == "lab" and row["kernels"] == 1]
    if not found:
        raise LabError("No lab has been measured: run `labs bench classroom`.")
    return found


def _server(rows):
    return next(row for row in rows if row["what"] == "server")


def peak_gb(rows):
    """Memory of one student in GB: a server and the heaviest lab at its peak.

    Counts libraries too: on one machine, whoever uses them first is charged with them.
    """
    return (max(row["rss_mb"] for row in _labs(rows)) + _server(rows)["rss_mb"] + HUB_MB) / 1000


# What the README says -------------------------------------------------------------------------------------------------


def markdown():
    """The measured part of classroom/README.md, from the kept rows: what machines hold, and what a kernel costs."""
    kept = record.read("classroom")
    if kept is None:
        said = "Not measured yet: `labs bench classroom` measures, and `labs links` writes the tables here."
        return f"{said}\n\n{_model()}"
    minutes = {path.stem: minutes for path, _, minutes in links.labs()}
    versions = ", ".join(f"{name.removesuffix('-cpu')} {version}" for name, version in kept["versions"].items())
    codes = {row["name"][:2]: row.get("code") for row in _labs(kept["rows"])}
    parts = [
        _machines(kept["rows"], minutes),
        _class(kept["rows"]),
        _model(),
        "What one lab costs, alone on the machine and with one thread. *Own* is what the next student's kernel needs "
        "again; the rest is libraries, which all kernels share.",
        _costs(kept["rows"], minutes),
        "The model against kernels that really ran side by side:",
        _checks(kept["rows"]),
        f"Measured on {kept['machine']}, with {versions}, on {kept['date']}."
        f"{record.said_changed(kept)}{record.said_labs(codes)}",
    ]
    return "\n\n".join(parts)


def two_labs():
    """What two labs hold that are open at once, measured and by the model, in words; nothing if nothing is known."""
    kept = record.read("classroom")
    if kept is None:
        return ""
    server = _server(kept["rows"])
    sizes = {
        (one["name"][:2], other["name"][:2]): two_labs_mb(one, other, server)
        for one, other in itertools.combinations(_labs(kept["rows"]), 2)
    }
    heaviest = max(sizes, key=sizes.get)
    fit = sum(size <= BINDER_MB for size in sizes.values())
    measured = "".join(
        f"two of lab {row['name'][:2]} really held {row['pss_mb'] + server['rss_mb']:,} MB, "
        for row in kept["rows"]
        if row["what"] == "lab" and row["kernels"] == 2
    )
    return (
        f"Two labs open at once, with JupyterLab's server: {measured}by the classroom's model the heaviest two, "
        f"{' and '.join(heaviest)}, hold {sizes[heaviest]:,} MB, and {fit} of {len(sizes)} pairs of labs stay within "
        "Binder's 2 GB. "
    )


def _model():
    """What the table of machines supposes, in words."""
    return (
        "**The model.** *Memory:* everybody has the heaviest lab open, run once, at its peak, beside a JupyterLab "
        "server of their own. Libraries are in memory once, everything else once per student, and "
        f"{SYSTEM_GB:g} GB stay with the system. Two labs open are two students. *Computing time:* everybody runs "
        "every cell of the most demanding lab once in the minutes that it takes to work through. Together they may "
        f"keep {BUSY:.0%} of the cores busy; the rest is for bursts. The last column is such a burst: as many "
        f"students as the machine holds press *Run All* within {WINDOW_MINUTES} minutes, in the lab that computes "
        "longest, and share the cores equally. Waits are from pressing to the last cell, so a lab's own time is in "
        "them. Nobody loses work then; they wait. A core is one of the machine that "
        "was measured, and one machine serves the whole class."
    )


def _machines(rows, minutes):
    head = ["cores", "memory", "students, by memory", "by computing time", "so it holds", "longest wait, minutes"]
    lines = []
    for cores, gb in MACHINES:
        room = students(gb, cores, rows, minutes)
        wait = _minutes(60 * room["wait_minutes"]) if room["holds"] else ""
        lines.append([cores, f"{gb} GB", room["by_memory"], room["by_time"], f"**{room['holds']}**", wait])
    return record.table(head, lines)


def _class(rows):
    """What a class of thirty needs, in words."""
    labs, one_server = _labs(rows), _server(rows)
    heaviest, slowest = max(labs, key=lambda row: row["own_mb"]), max(labs, key=lambda row: row["cpu_s"])
    need = math.ceil(SYSTEM_GB + memory_mb(CLASS, heaviest, one_server) / 1000)
    every = sorted({cores for cores, _ in MACHINES})
    longest = [f"{_minutes(max(waits(CLASS, cores, slowest, 60 * WINDOW_MINUTES)))} on {cores}" for cores in every]
    return (
        f"A class of {CLASS} needs {need} GB. If all {CLASS} press Run All within {WINDOW_MINUTES} minutes in the lab "
        f"that computes longest, the last one waits this many minutes: {', '.join(longest)} cores. One student with "
        f"one lab at its peak takes up to {peak_gb(rows):.1f} GB, libraries included."
    )


def _minutes(seconds):
    """Seconds as minutes, rounded up to a tenth."""
    return f"{math.ceil(seconds / 6) / 10:.1f}"


def _costs(rows, minutes):
    head = ["", "a student's minutes", "peak memory, MB", "own, MB", "processor, s", "Run All, s"]
    lines = []
    for row in _labs(rows):
        costs = [row[key] for key in ("rss_mb", "own_mb", "cpu_s", "wall_s")]
        lines.append([row["name"], minutes.get(row["name"]) or "", *costs])
    one = _server(rows)
    return record.table(head, [*lines, ["JupyterLab's server", "", one["rss_mb"], one["own_mb"], "", ""]])


def _checks(rows):
    head = ["kernels at once", "of lab", "memory, MB: model", "measured", "seconds of the last: model", "measured"]
    alone = {row["name"]: row for row in _labs(rows)}
    lines, ratios = [], []
    for row in [row for row in rows if row["what"] == "lab" and row["kernels"] > 1]:
        kernel, count = alone[row["name"]], row["kernels"]
        memory, seconds = memory_mb(count, kernel), max(waits(count, row["cores"], kernel))
        measured = [memory, row["pss_mb"], f"{seconds:.0f}", f"{row['wall_max_s']:.0f}"]
        lines.append([count, row["name"], *measured])
        ratios.append((memory / row["pss_mb"], seconds / row["wall_max_s"]))
    table = record.table(head, lines)
    if not ratios:
        return table
    memory, seconds = zip(*ratios, strict=True)
    return (
        f"{table}\n\nThe model's memory is {min(memory):.2f} to {max(memory):.2f} times what was measured, its seconds "
        f"are {min(seconds):.2f} to {max(seconds):.2f} times: where that is below 1, expect to wait longer."
    )


def nbgitpuller(hub):
    """The link that copies the course to a student's folder on a hub, or brings the copy up to date, and opens it.

    hub: the hub's address, such as https://hub.example.org.
    """
    repository = links.repository()
    folder = repository.rpartition("/")[2]  # where nbgitpuller puts it
    opened = f"lab/tree/{folder}/notebooks/00_index.ipynb"
    query = urllib.parse.urlencode({"repo": repository, "urlpath": opened}, quote_via=urllib.parse.quote, safe="")
    return f"{hub.rstrip('/')}/hub/user-redirect/git-pull?{query}"


def installation():
    """The commands that put the course, its packages and MNIST on The Littlest JupyterHub, for all users."""
    return "\n".join(
        [
            f"sudo git clone {links.repository()} /srv/nn-labs",
            "sudo -E pip install -r /srv/nn-labs/requirements.txt",
            "sudo -E pip install --no-deps -e /srv/nn-labs",
            "sudo -E env LABKIT_CACHE=/srv/nn-labs-data labs data --fetch",
            "LABKIT_DATA=/srv/nn-labs-data labs doctor",
        ]
    )


def readme():
    """What classroom/README.md should say: its text, with the generated parts brought up to date.

    Raises LabError if the comments around them are gone.
    """
    text = README.read_text("utf-8")
    parts = {"students": markdown(), "install": _code(installation()), "link": _code(nbgitpuller("https://HUB"))}
    for name, part in parts.items():
        pattern = re.compile(f"<!-- {name} -->.*?<!-- end of {name} -->", re.DOTALL)
        if not pattern.search(text):
            raise LabError(f"classroom/README.md has lost the comments `{name}`, between which generated text stands.")
        block = f"<!-- {name} -->\n{part}\n<!-- end of {name} -->"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


def _code(lines):
    return f"```\n{lines}\n```"


# ----------------------------------------------------------------------------------------------------------------------


def main(arguments=None):
    """What each lab costs a hub, several kernels at once, and how many students a machine holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="lab 06 on the digits only, and keep nothing")
    parser.add_argument("--lab", default=TOGETHER, help="the lab that runs several times at once (%(default)s)")
    chosen = parser.parse_args(arguments)
    quick, lab = chosen.quick, QUICK if chosen.quick else chosen.lab
    if not Path("/proc/self/smaps_rollup").exists():
        raise LabError("The classroom is measured through /proc, which only Linux has: measure on the hub's machine.")
    if quick:
        os.environ["LABKIT_DATA"] = "digits"
    elif _data() != "MNIST":
        raise LabError("The classroom is measured on MNIST, which is not here: see `labs data`, or use --quick.")
    together = runner.find_labs([lab])
    rows = [_shown(server())]
    alone = [path for path in runner.find_labs() if path.stem[:2] != "00"]  # the index computes nothing
    runs = [(path, 1) for path in (together if quick else alone)]
    runs += [(*together, count) for count in (AT_ONCE[:1] if quick else AT_ONCE)]
    for path, count in runs:
        rows.append(_shown(kernels(path, count)))
        if not quick and len(rows) > len(alone):  # all labs are there, and with fewer the tables would mislead
            record.write("classroom", rows, *MEASURED_BY)
    minutes = {path.stem: minutes for path, _, minutes in links.labs()}
    print(_machines(rows, minutes), _class(rows), _checks(rows), sep="\n\n")


MEASURED_BY = (kernels, server, Watch, _memory, _kilobytes, _reaped_seconds, _row)


def _shown(row):
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def _data():
    from labkit import data

    return "MNIST" if os.environ.get("LABKIT_DATA", "").strip() != "digits" and data.has_mnist() else "digits"


if __name__ == "__main__":
    try:
        runner.fix_data_path()
        main()
    except LabError as error:
        sys.exit(str(error))
