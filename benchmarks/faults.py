"""Injects faults for real, many times, and counts how often nothing was lost.

    labs bench faults                 every kind, about half an hour
    labs bench faults disk clock      only the kinds with one of these words in their name
    labs bench faults --times 2       two trials of each kind; nothing is kept

Each trial works in a folder of its own, with a cache and, where labs are run, a copy of the course of its own. Full
disks, a home that cannot be written to and a missing network are made in a Linux namespace, which needs no rights
but that the system allows them; where it does not, these rows are left out. Windows knows neither process groups nor
the kind of kill that is meant here, so there the drill does not run.
"""

import argparse
import contextlib
import functools
import hashlib
import http.server
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import record

from labkit import data, runner

LIMIT, LAB_LIMIT = 200, 600  # seconds for one process, and for one that runs labs: longer means that it hangs
ORPHAN_SECONDS = 15  # in which workers have to notice that nobody waits for them any more
# An option of `unshare` for faults that need a system of their own, and a command that works where it is allowed:
# hiding /tmp must hide neither this file nor Python.
MOUNT = "--mount", 'mount -t tmpfs tmpfs /tmp && test -e "$0" && test -e "$1"'
NET = "--net", "ip link set lo up"
DRILLS = {}


class Lost(Exception):
    """What a fault destroyed, or how it was told badly."""


@dataclass
class Drill:
    """One kind of fault. `trial(folder, n)` injects it for the n-th time, and raises Lost where it is not survived.

    how: what counts as survived; {most} becomes the highest number that a trial returned, {total} their sum.
    namespace: None, MOUNT or NET.
    """

    fault: str
    times: int
    how: str
    trial: callable
    namespace: tuple | None = None


def drill(fault, times, how, namespace=None):
    """Add the decorated function to the drills."""

    def add(trial):
        DRILLS[fault] = Drill(fault, times, how, trial, namespace)
        return trial

    return add


def demand(condition, otherwise):
    """Raise Lost unless the condition holds."""
    if not condition:
        raise Lost(otherwise)


def carry_out(one, times):
    """Try one drill so many times; return its row."""
    survived, numbers = 0, [0.0]
    for n in range(times):
        with tempfile.TemporaryDirectory(prefix="labs-drill-", ignore_cleanup_errors=True) as folder:
            try:
                numbers.append(one.trial(Path(folder), n) or 0.0)
                survived += 1
            except Exception as lost:
                print(f"  {one.fault}, trial {n}: {type(lost).__name__}: {lost}", file=sys.stderr, flush=True)
    how = one.how.format(most=f"{max(numbers):.1f}", total=f"{sum(numbers):.0f}")
    return {"fault": one.fault, "tried": times, "survived": survived, "how": how}


def carry_out_apart(one, times):
    """The same in a namespace, where this process may mount disks and has a network of its own; None if refused."""
    option, allowed = one.namespace
    unshare = ["unshare", "--map-root-user", option]
    probe = [*unshare, "sh", "-c", allowed, __file__, sys.executable]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True, check=False).returncode:
        return None
    command = [*unshare, sys.executable, __file__, "--apart", one.fault, "--times", str(times)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        return json.loads(process.communicate(timeout=times * LAB_LIMIT)[0])
    except (subprocess.TimeoutExpired, ValueError) as accident:
        kill_family(process)
        print(f"  {one.fault}: no result, exit status {process.returncode}: {accident}", file=sys.stderr, flush=True)
        return {"fault": one.fault, "tried": times, "survived": 0, "how": one.how.format(most="?", total="?")}


# ---- What trials share -------------------------------------------------------------------------------------


def environment(folder, **more):
    """Variables for a process that must find nothing of this computer's caches; values of None are left out."""
    own = {"LABKIT_CACHE": str(folder / "cache"), "KERAS_HOME": str(folder / "keras"), "LABKIT_DATA": None}
    own |= {"PYTHONPATH": str(runner.ROOT), "MPLBACKEND": "agg", "NO_PROXY": "*", "PYTHONDONTWRITEBYTECODE": "1"}
    return {name: value for name, value in (os.environ | own | more).items() if value is not None}


def start(folder, *arguments, before=(), **variables):
    """Start Python with these arguments, in a process group of its own, so that it can be killed with its workers."""
    return subprocess.Popen(
        [*before, sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder, **variables),
        start_new_session=True,
    )


def until(condition, process, limit=None):
    """Wait until a condition holds; return whether it does before the process ends, and in time."""
    end = time.monotonic() + (limit or LIMIT)
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.0002)
    return True


def finish(process, limit=None):
    """Wait for the end of a process: (exit status, standard output, standard error)."""
    limit = limit or LIMIT
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        kill_family(process)
        raise Lost(f"it hangs for {limit} seconds") from None
    return process.returncode, out, err


def kill(process):
    """Kill a process and its workers at once, so that none of them can clear up; return True."""
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=10)
    sweep(process.pid)
    return True


def kill_family(process):
    """Kill a process and all that it started, also in other groups, as kernels are."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    kill(process)


def kill_parent(process):
    """Kill a process alone, as a restart of its kernel does, and demand that its workers end; return True."""
    import psutil

    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(family, timeout=ORPHAN_SECONDS)
    named = []
    for one in left:
        with contextlib.suppress(psutil.Error):  # it may have just ended
            named.append(" ".join(one.cmdline())[:120])
            one.kill()
    process.communicate(timeout=10)
    sweep(process.pid)
    demand(not left, f"{len(left)} of the {len(family)} processes that it started live on: {named}")
    return True


def kill_worker(process):
    """Kill one worker, as the system does where memory runs out, and demand one sentence; return whether one was hit.

    None is hit where all of the work is done before.
    """
    until(lambda: workers(process), process)
    for worker in workers(process)[:1]:
        worker.kill()
    status, out, err = finish(process)
    sweep(process.pid)
    if status == 0:
        return False
    refused(status, out, err, "A worker process died")
    return True


def workers(process):
    """Its processes in which joblib trains."""
    import psutil

    with contextlib.suppress(psutil.Error):  # processes end while we look at them
        children = psutil.Process(process.pid).children()
        return [child for child in children if "LokyProcess" in " ".join(child.cmdline())]
    return []


def sweep(pid):
    """Remove what joblib's processes would have cleared away, had process `pid` not been killed."""
    memory = Path("/dev/shm")
    for left in (*memory.glob(f"sem.loky-{pid}-*"), *memory.glob(f"joblib_memmapping_folder_{pid}_*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def work(process, said="", limit=None):
    """Demand that a process ends well and prints this; return all that it prints."""
    status, out, err = finish(process, limit)
    demand(status == 0 and said in out, f"exit status {status}, {(err or out)[-600:]!r}")
    return out


def refuse(process, said):
    """Demand that a process ends badly, with one sentence on standard error that has these words."""
    refused(*finish(process), said)


def refused(status, out, err, said):
    told = err.strip()
    demand(status == 1 and said in told and "\n" not in told, f"exit status {status}, {(told or out)[-600:]!r}")


def digest(*folders):
    """A digest of all files in these folders, with their names."""
    whole = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        whole.update(str(path).encode() + path.read_bytes())
    return whole.hexdigest()


@contextlib.contextmanager
def disk(folder, kilobytes):
    """A file system of its own in this folder; yields a function that gives it another size."""

    def mount(options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    folder.mkdir(exist_ok=True)
    mount(f"size={kilobytes}k")
    try:
        yield lambda more: mount(f"remount,size={more}k")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# ---- Studies -----------------------------------------------------------------------------------------------

# Says what the record holds, completes it, and says that again. TRAINING is what makes its runs.
STUDY = """
import json
import random
import sys
import time

from labkit import errors, study

TRAINING

def made():
    return study.Study("02.drill", build, load, OPTIONS, seeds=range(4), epochs=2, batch_size=32, where=sys.argv[1])


def say():
    found = made().status()
    print("status", json.dumps([found.complete, len(found.fresh), found.damaged]))


if __name__ == "__main__":
    try:
        say()
        made().record(jobs=2)
        say()
    except errors.LabError as error:
        sys.exit(str(error))
"""
# Runs that train nothing, but take a moment and leave long lines.
QUICK = """
OPTIONS = {"units": [1, 2, 3, 4, 5]}


def train(functions, options, seed, *rest):
    time.sleep(0.02)
    chance = random.Random(f"{options} {seed}")
    curve = [chance.random() for _ in range(3000)]
    made = {"options": options, "seed": seed, "data": "none", "parameters": 1, "seconds": 0.1, "versions": {}}
    return made | dict.fromkeys(study.PARTS, {"loss": curve[-1]}) | {"history": {"loss": curve}}


def build(units):
    return None


def load():
    return None


study._train = train
"""
KERAS = """
OPTIONS = {"units": [3, 2]}


def load():
    import numpy as np
    from labkit.data import Dataset

    x = np.random.default_rng(0).random((20_000, 4), dtype="float32")
    y = (x.sum(axis=1) > 2).astype("int64")
    return Dataset(x[:64], y[:64], x[64:96], y[64:96], x, y, "noise", "made here")


def build(units):
    import keras

    hidden = keras.layers.Dense(units, "tanh")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dropout(0.2), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
"""


def study_in(folder, training):
    """Write the script of a study, and the folder for its record: (script, path of the record)."""
    script, path = folder / "study.py", folder / "results" / "02.drill.jsonl"
    script.write_text(STUDY.replace("TRAINING", training), encoding="utf-8")
    path.parent.mkdir(exist_ok=True)
    return script, path


@functools.cache
def undisturbed(training):
    """What a study is when nothing disturbs it: (its runs, the bytes of its record, seconds)."""
    with tempfile.TemporaryDirectory() as folder:
        script, path = study_in(Path(folder), training)
        begin = time.monotonic()
        work(start(Path(folder), script, path.parent))
        return runs_of(path), path.read_bytes(), time.monotonic() - begin


def runs_of(path):
    """The lines of a record without the time that they took."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "check")} for line in lines]


def whole_lines(path):
    """What is in the record up to the last line's end, line by line."""
    written = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [line for line in written if line.endswith(b"\n")]


def goes_on(folder, script, path, training, **variables):
    """Demand that a recording goes on from what is there, line by line, to the end; return how many were there."""
    kept = whole_lines(path)
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    out = work(start(folder, script, path.parent, **variables))
    before, after = map(json.loads, re.findall(r"status (\[.*\])$", out, re.MULTILINE))
    runs, _, _ = undisturbed(training)
    demand(before[1] == len(kept), f"{len(kept)} lines were written, but only {before[1]} are known")
    demand(before[2] == ([len(kept) + 1] if torn else []), f"lines {before[2]} are called damaged")
    demand(set(kept) <= set(whole_lines(path)), "a line that was written before has changed")
    demand(after == [True, len(runs), []] and runs_of(path) == runs, "the numbers are not those of one undisturbed run")
    demand(os.listdir(path.parent) == [path.name], "something is left beside the record")
    return len(kept)


def kill_recording(folder, n, training, strike=kill, **variables):
    """Strike a recording at a random moment, and let another one go on.

    strike: function (process) -> whether it has hit. Half of the recordings begin with half of a record, whose last
    line is torn. Every fourth is killed all at once while it puts the record in order, when all lines are at stake.
    """
    script, path = study_in(folder, training)
    runs, record, _ = undisturbed(training)
    begun, aimed = record[: len(record) // 2] if n % 8 >= 4 else b"", strike is kill and n % 4 == 3
    for seed in itertools.count(n, 1000):
        if begun:
            path.write_bytes(begun)
        process = start(folder, script, path.parent, **variables)
        if strike is kill_parent and n % 2 == 0:  # when its workers have no work yet
            until(functools.partial(workers, process), process)
        else:
            (wait_for_order if aimed else wait)(process, path, random.Random(seed), training, len(begun))
        if process.poll() is not None:
            work(process)  # it ended first: once more, to be struck at another moment
        elif strike(process):
            break
        path.unlink()
    kept = set(whole_lines(path))
    demand(kept >= {line for line in begun.splitlines(True) if line.endswith(b"\n")}, "lines of before are lost")
    demand(not aimed or begun or len(kept) == len(runs), "lines are lost while they are put in order")
    goes_on(folder, script, path, training, **variables)


def wait(process, path, chance, training, begun):
    """Wait until a random length of the record, or (every third time) for a random time from the start on.

    begun: the bytes that it had at the start.
    """
    _, record, seconds = undisturbed(training)
    if chance.random() < 1 / 3:
        until(lambda: False, process, chance.uniform(0, seconds))
    else:
        length = chance.uniform(begun, len(record))
        until(lambda: path.exists() and path.stat().st_size > length, process)


def wait_for_order(process, path, chance, training, begun):
    """Wait until the record is being put in order: at the start where a half is there, else at the end."""
    _, record, _ = undisturbed(training)
    if not begun:
        until(lambda: path.exists() and path.stat().st_size > 0.99 * len(record), process)
    until(lambda: any(name.endswith(".part") for name in os.listdir(path.parent)), process)
    time.sleep(chance.uniform(0, 0.003))


KEPT = "each line written before is kept bit for bit, at most the torn one is called damaged, and a second recording \
completes the record with the numbers of one that nothing disturbed"


@drill(
    "killed while a study records",
    60,
    f"{KEPT}; every fourth kill is aimed at the moment when the record is put in order, and half of the records are "
    "begun before",
)
def killed_recording(folder, n):
    kill_recording(folder, n, QUICK)


@drill(
    "killed while a study trains Keras networks",
    12,
    "in turn all of its processes, the parent alone (its workers end by themselves) or one worker alone (one sentence "
    f"says so); {KEPT}",
)
def killed_training(folder, n):
    kill_recording(folder, n, KERAS, (kill, kill_parent, kill_worker)[n % 3])


@drill("disk full while a study records", 20, f"one sentence says so; {KEPT}, once there is room", MOUNT)
def full_disk_recording(folder, n):
    script, path = study_in(folder, QUICK)
    size = len(undisturbed(QUICK)[1]) // 1024
    # At the end the record is written anew, in order, so that even twice its size is too little.
    with disk(path.parent, random.Random(n).randrange(4, 2 * size - 8, 4)) as resize:
        refuse(start(folder, script, path.parent), "No space left on device")
        resize(3 * size)
        goes_on(folder, script, path, QUICK)


# ---- MNIST's download and cache ----------------------------------------------------------------------------

SIZES = {"x_train": (1200, 28, 28), "y_train": (1200,), "x_test": (300, 28, 28), "y_test": (300,)}
LOAD = """
import json, sys
from labkit import data
shapes, data.SHA256, data.MIRRORS = json.loads(sys.argv[1])
data.SHAPES = {name: tuple(shape) for name, shape in shapes.items()}
print(data.load_mnist(n_valid=10).name)
"""


@functools.cache
def small():
    """Arrays that stand in for MNIST's, and the bytes of their .npz file, about a megabyte."""
    generator = np.random.default_rng(0)
    arrays = {name: generator.integers(0, 10, shape, dtype=np.uint8) for name, shape in SIZES.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return arrays, file.getvalue()


def digests():
    return {name: hashlib.sha256(array).hexdigest() for name, array in small()[0].items()}


@contextlib.contextmanager
def mirror(send):
    """A mirror on the loopback address, which answers each request with send(handler); yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(OSError):  # the client hung up
                send(self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/mnist.npz"
    finally:
        server.shutdown()
        server.server_close()


def sender(content, announced=True):
    """What `mirror` takes to send this content, with or without its size."""

    def send(handler):
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", str(len(small()[1])))
        handler.end_headers()
        handler.wfile.write(content)

    return send


def loader(folder, url, **variables):
    """Start a process that loads the small arrays from this mirror or from the cache."""
    return start(folder, "-c", LOAD, json.dumps([SIZES, digests(), [url]]), **variables)


def load_here(folder, url, stall=10):
    """Load them in this process: (Dataset, what was printed). stall: seconds to wait for a silent mirror."""
    settings = {"SHAPES": SIZES, "SHA256": digests(), "MIRRORS": [url], "RETRY_SECONDS": 0, "STALL_SECONDS": stall}
    variables = mock.patch.dict(os.environ, environment(folder), clear=True)
    with mock.patch.multiple(data, **settings), variables, contextlib.redirect_stdout(io.StringIO()) as printed:
        return data.load_mnist(n_valid=10, scale=False), printed.getvalue()


def is_small(loaded):
    """Whether these are the small arrays, every pixel of them."""
    arrays, _ = small()
    x = np.concatenate([loaded.x_train, loaded.x_valid])
    same = np.array_equal(x, arrays["x_train"]) and np.array_equal(loaded.x_test, arrays["x_test"])
    return same and loaded.name == "MNIST"


def usable_next_time(folder):
    """Demand that the cache holds nothing, or the complete file; and that the next loading ends with that."""
    path = folder / "cache" / "mnist.npz"
    demand(not path.exists() or path.read_bytes() == small()[1], "the cache holds a spoilt mnist.npz")
    with mirror(sender(small()[1])) as url:
        demand(is_small(load_here(folder, url)[0]), "the next loading is not MNIST")
    with mirror(sender(b"")) as url:
        demand(is_small(load_here(folder, url)[0]), "MNIST is not in the cache afterwards")


@drill(
    "killed while MNIST is downloaded and kept",
    40,
    "the cache holds nothing or the complete file, and the next loading gives MNIST and keeps it ({total} of the kills "
    "fell after the last byte was sent and before the file was in its place)",
)
def killed_download(folder, n):
    content, chance, cache = small()[1], random.Random(n), folder / "cache"
    # In turn: a part of it is sent; all, and the kill comes soon after; all, and it comes while that is put away.
    sent, reached = len(content) if n % 3 else chance.randrange(len(content)), threading.Event()

    def send(handler):
        sender(content[:sent])(handler)
        handler.wfile.flush()
        reached.set()
        time.sleep(1)

    with mirror(send) as url:
        process = loader(folder, url)
        try:
            demand(until(reached.is_set, process), "it never asked for the file")
            if n % 3 == 2:
                until(lambda: any(cache.glob("mnist*")), process)
            time.sleep(chance.uniform(0, (0, 0.06, 0.005)[n % 3]))
        finally:
            kill(process)
    between = sent == len(content) and not (cache / "mnist.npz").exists()
    usable_next_time(folder)
    return between


def broken(content, n, chance):
    """The n-th way for a mirror to send less or other than this content: what `mirror` takes."""
    at = chance.randrange(len(content))
    if n % 4 == 3:  # flipped bits
        return sender(content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :])
    if n % 4 == 2:  # silence

        def stall(handler):
            sender(content[:at])(handler)
            handler.wfile.flush()
            time.sleep(1)

        return stall
    return sender(content[:at], announced=n % 2)


@drill(
    "mirror cuts off, stalls or sends spoilt bytes",
    80,
    "the loading gives MNIST or says that it is the stand-in, the cache holds nothing or verified MNIST, and the next "
    "loading gives MNIST and keeps it",
)
def broken_mirror(folder, n):
    with mirror(broken(small()[1], n, random.Random(n))) as url:
        loaded, printed = load_here(folder, url, stall=0.3)
    demand(is_small(loaded) or "not mnist" in printed.lower(), "neither MNIST nor a word about the stand-in")
    kept = folder / "cache"
    demand(is_small(loaded) == (kept / "mnist.npz").exists(), "the cache does not hold what was loaded")
    demand(not list(kept.glob("*.part")), "a partial file is left")
    if loaded.name == "digits":
        usable_next_time(folder)


@drill(
    "disk full while MNIST is kept",
    20,
    "MNIST is used, one sentence says that it is not kept, nothing is left on the disk; it is kept once there is room",
    MOUNT,
)
def full_disk_cache(folder, n):
    size = len(small()[1]) // 1024
    with disk(folder / "cache", random.Random(n).randrange(4, size, 4)) as resize:
        with mirror(sender(small()[1])) as url:
            loaded, printed = load_here(folder, url)
        demand(is_small(loaded), "it was downloaded, but not used")
        demand("No space left on device" in printed and printed.count("\n") == 1, repr(printed))
        demand(not list((folder / "cache").iterdir()), "something is left in the cache")
        resize(3 * size)
        usable_next_time(folder)


# ---- Labs --------------------------------------------------------------------------------------------------


def course(folder, keep=None):
    """Copy the course into a new folder, with only those labs that `keep` lists; return the copy's path."""
    copy = folder / "course"
    shutil.copytree(runner.ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "*.part"))
    for path in (copy / "notebooks").glob("*.ipynb"):
        if keep is not None and path.name[:2] not in keep:
            path.unlink()
    return copy


def labs(copy, *arguments, **variables):
    """Start the `labs` command of a copy of the course, on the digits."""
    variables = {"PYTHONPATH": str(copy), "LABKIT_DATA": "digits"} | variables
    return start(copy.parent, "-P", "-m", "labkit.cli", *arguments, **variables)


def run_labs(copy, *arguments, said="All 1 ok.", **variables):
    """Demand that labs run to their end; return what is printed."""
    return work(labs(copy, "run", *arguments, **variables), said, LAB_LIMIT)


def notebook(path, *sources):
    """Write a notebook with these code cells."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)


# Lab 03's cells up to where it loads a study; its training is between two notes of the time.
LOADS_AND_TRAINS = ("set-up", "constants", "noise-data", "data", "digits", "noise-build", "by-heart", "watch-test")
LOADS_AND_TRAINS += ("noise-study", "noise-load", "train")
NOTE = "import os, pathlib; pathlib.Path(os.environ['DRILL'], '{}').touch()"


def cut_down(path):
    import nbformat

    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    sources = [cells[name] for name in LOADS_AND_TRAINS]
    notebook(path, *sources[:-1], NOTE.format("begin"), sources[-1], NOTE.format("end"))


@functools.cache
def training_seconds():
    """How long the cut-down lab trains, undisturbed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = course(Path(folder), ["03"])
        cut_down(*copy.glob("notebooks/03*"))
        run_labs(copy, DRILL=folder)
        begin, end = (Path(folder, name).stat().st_mtime for name in ("begin", "end"))
        return end - begin


@drill(
    "kernel killed while a lab trains",
    10,
    "`labs run --save` says so in one sentence, and no file of the course changes; a fresh run works (tried after each "
    "fourth kill)",
)
def killed_kernel(folder, n):
    import psutil

    copy = course(folder, ["03"])
    cut_down(*copy.glob("notebooks/03*"))
    moment, before = random.Random(n).uniform(0, 0.6 * training_seconds()), digest(copy)
    process = labs(copy, "run", "--save", DRILL=folder)
    until((folder / "begin").exists, process, LAB_LIMIT)
    time.sleep(moment)
    for kernel in psutil.Process(process.pid).children():
        kernel.kill()
    status, out, err = finish(process)
    demand((folder / "begin").exists() and not (folder / "end").exists(), "the kill did not fall into the training")
    demand(status == 1 and "The kernel died" in out and err == "", f"exit status {status}, {(err or out)[-600:]!r}")
    demand(digest(copy) == before, "a file has changed")
    if n % 4 == 3:
        run_labs(copy, DRILL=folder)
        demand(digest(copy) == before, "a fresh run has changed a file")


@drill(
    "disk full while a lab is saved",
    10,
    "one sentence says so, the notebook keeps every bit, and nothing lies beside it; it is saved once there is room",
    MOUNT,
)
def full_disk_save(folder, n):
    copy = course(folder, [])
    with disk(copy / "notebooks", 4000) as resize:
        path = copy / "notebooks" / "01_long.ipynb"
        notebook(path, *[f"print('{n}' * 50_000)"] * 8)
        before = path.read_bytes()
        resize(len(before) // 1024 + random.Random(n).randrange(8, 400, 4))
        status, out, err = finish(labs(copy, "run", "--save"), LAB_LIMIT)
        told = [line for line in (out + err).splitlines() if "No space left on device" in line]
        demand(
            status == 1 and len(told) == 1 and "Traceback" not in err, f"exit status {status}, {(err or out)[-600:]!r}"
        )
        demand(path.read_bytes() == before, "the notebook is not what it was")
        demand(os.listdir(path.parent) == [path.name], "something is left beside the notebook")
        resize(4000)
        run_labs(copy, "--save")
        demand(str(n) * 50_000 in path.read_text("utf-8"), "the outputs are not saved once there is room")


# What the first cells of a lab do.
OPEN_LAB = """
import time
from labkit import session
from labkit import plots
from labkit.data import load_mnist
session.start(1)
started = time.perf_counter()
mnist = load_mnist()
seconds = time.perf_counter() - started
plots.digits(mnist.x_train[:10], mnist.y_train[:10]).figure.savefig("picture.png")
print(seconds)
"""


def open_lab(folder, url="", before=(), **variables):
    """Run the first cells of a lab, with this mirror if one is given; return what is printed, and on standard error."""
    script, arguments = OPEN_LAB, []
    if url:
        script = LOAD + script.replace("load_mnist()", "load_mnist(n_valid=10)")
        arguments = [json.dumps([SIZES, digests(), [url]])]
    process = start(
        folder, "-c", f"import os; os.chdir({str(folder)!r})\n{script}", *arguments, before=before, **variables
    )
    status, out, err = finish(process)
    demand(status == 0 and (folder / "picture.png").exists(), f"exit status {status}, {(err or out)[-600:]!r}")
    demand(err.strip().count("\n") == 0, repr(err))
    return out


@drill(
    "a home that cannot be written to",
    3,
    "read-only, missing, or of a user whom the system does not know: the first cells of a lab load MNIST and draw, "
    "with at most one line on standard error, and lab 06 runs",
    MOUNT,
)
def closed_home(folder, n):
    asked = []

    def send(handler):
        asked.append(handler.path)
        sender(small()[1])(handler)

    home = folder / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", home], check=True)
    settings = dict.fromkeys(("LABKIT_CACHE", "KERAS_HOME", "MPLCONFIGDIR", "TMPDIR"))
    settings |= {name: None for name in os.environ if name.startswith(("XDG_", "JUPYTER", "IPYTHON"))}
    settings["HOME"] = (str(home), str(home / "missing"), None)[n % 3]
    settings["before"] = ("unshare", "--map-user=12345") if n % 3 == 2 else ()
    try:
        with mirror(send) as url:
            demand(open_lab(folder, url, **settings).startswith("MNIST"), "MNIST was not loaded")
        demand(asked, "MNIST was found where an earlier trial had left it")
        run_labs(course(folder, ["06"]), **settings)
    finally:
        subprocess.run(["umount", "-l", home], check=True)


NO_NETWORK = (
    "the first cells of a lab say that this is not MNIST, and draw the stand-in; load_mnist took {most} s at most"
)


def without_network(folder):
    out = open_lab(folder)
    demand("THIS IS NOT MNIST" in out and "Traceback" not in out, out[-600:])
    return float(out.split()[-1])


@drill("no network at all", 5, f"{NO_NETWORK}; a lab trains on the stand-in and says so once (tried twice)", NET)
def no_network(folder, n):
    seconds = without_network(folder)
    if n >= 3:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # on which kernels are talked to
        copy = course(folder, ["03"])
        (path,) = copy.glob("notebooks/03*")
        cut_down(path)
        out = run_labs(copy, "--save", LABKIT_DATA=None, DRILL=folder)
        demand("CAREFUL: these outputs were made without MNIST" in out, out)
        demand(path.read_text("utf-8").count("THIS IS NOT MNIST") == 1, "the lab does not say once what it runs on")
    return seconds


@drill("a network that answers nothing", 3, NO_NETWORK, NET)
def silent_network(folder, n):
    for command in ("link set lo up", "route replace default dev lo"):  # whatever is sent goes nowhere
        subprocess.run(["ip", *command.split()], check=True)
    seconds = without_network(folder)
    demand(seconds > 4, f"after {seconds:.1f} s, something has answered")
    return seconds


# ---- Clock, threads and path -------------------------------------------------------------------------------

# Python runs a module of this name at its start, also in workers and kernels; each leaves its command in a file.
CLOCK = """
import itertools, os, sys, time
with open(os.path.join(os.path.dirname(__file__), "clocks"), "a") as file:
    file.write(f"{os.getpid()} {sys.orig_argv}\\n")
real, jumps = time.time, itertools.cycle([0, 12, -12, -1, 30 * 365 * 24, -30 * 365 * 24, 1])
time.time = lambda: real() + 3600 * next(jumps)
time.time_ns = lambda: int(1e9 * time.time())
"""


@drill(
    "a clock that jumps by hours and years, at every look",
    20,
    "Python's time.time and time.time_ns jump, also in workers and kernels; "
    f"killed recordings: {KEPT}; MNIST: the download is kept and found again; lab 06 runs (once in ten)",
)
def jumping_clock(folder, n):
    (folder / "sitecustomize.py").write_text(CLOCK)
    path = f"{folder}{os.pathsep}{runner.ROOT}"
    kill_recording(folder, n, QUICK if n % 10 else KERAS, PYTHONPATH=path)
    demand("LokyProcess" in (folder / "clocks").read_text(), "no worker had this clock")
    with mirror(sender(small()[1])) as url:
        both = [loader(folder, url, PYTHONPATH=path) for _ in range(2)]
        for process in both:
            demand(work(process) == "MNIST\n", "more was said than that this is MNIST")
    usable_next_time(folder)
    if n % 10 == 0:
        copy = course(folder, ["06"])
        run_labs(copy, PYTHONPATH=f"{folder}{os.pathsep}{copy}")
        demand("ipykernel_launcher" in (folder / "clocks").read_text(), "no kernel had this clock")


@drill("1, 2 and 4 threads", 3, "labs 01 and 06 run, and all of their claims hold")
def threads(folder, n):
    run_labs(course(folder, ["01", "06"]), "--jobs", "1", "--threads", 2 ** (n % 3), said="All 2 ok.")


@drill(
    "a path with spaces and letters of other alphabets",
    1,
    "lab 06 runs, links are written and then up to date, MNIST is kept and found, a study is recorded "
    "with the usual numbers",
)
def odd_path(folder, n):
    odd = folder / "Übung 1 – neural labs ñ 日本"
    odd.mkdir()
    copy = course(odd)
    work(labs(copy, "links"))  # first: the table of these very drills may have just changed
    work(labs(copy, "links", "--check"))
    run_labs(copy, "06", "--save")
    work(labs(copy, "data"), "chosen on purpose")
    usable_next_time(odd)
    script, path = study_in(odd, KERAS)
    goes_on(odd, script, path, KERAS, PYTHONPATH=str(copy))


def faults(words=(), times=None):
    """Inject every kind of fault, or those with one of these words in their name, and count what survives."""
    if os.name != "posix":
        raise SystemExit("The fault drill needs Linux or macOS.")
    chosen = [one for name, one in DRILLS.items() if not words or any(word in name for word in words)]
    record.digest(sys.modules[__name__])
    kept = record.read("faults")
    rows, tried = {row["fault"]: row for row in kept["rows"]} if kept else {}, []
    for one in chosen:
        begin = time.monotonic()
        row = (carry_out_apart if one.namespace else carry_out)(one, times or one.times)
        if row is None:
            print(f"{one.fault}: left out, because this system allows no namespaces (or this is in /tmp).", flush=True)
            continue
        print(f"{one.fault}: {row['survived']} of {row['tried']}, {time.monotonic() - begin:.0f} s", flush=True)
        tried.append(row)
        rows[one.fault] = row
        if not times:  # each as it is there, among what is known of the others
            among = kept if {row["fault"] for row in tried} < set(rows) else None
            found = [rows[name] for name in DRILLS if name in rows]
            record.write("faults", found, sys.modules[__name__], among=among)
    record.show(tried)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only faults with one of these words in their name")
    parser.add_argument("--times", type=int, help="so many trials of each, instead of as many as it takes")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)  # inside a namespace of its own
    chosen = parser.parse_args()
    if chosen.apart:
        one = DRILLS[chosen.words[0]]
        if one.namespace is MOUNT:  # whoever has no home uses /tmp: nothing is to be found there, or left
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/tmp"], check=True)
        print(json.dumps(carry_out(one, chosen.times)))
    else:
        faults(chosen.words, chosen.times)


if __name__ == "__main__":
    main()
