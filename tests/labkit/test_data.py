"""labkit.data: every place MNIST can come from, everything that can go wrong on the way, and the stand-in."""
# ruff: noqa: PLR0917 (a test takes each fixture as an argument)

import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest

from labkit import data, runner
from labkit.data import DataError, load_mnist

# Where `labs data` has found it, if the tests run on the stand-in by choice or for want of it.
CHOSEN = os.environ.get("LABKIT_DATA", "").strip()
REAL = CHOSEN if CHOSEN not in ("", "digits") else str(data.cache_folder() / "mnist.npz")
needs_mnist = pytest.mark.skipif(not Path(REAL).exists(), reason="MNIST is not on this computer")

# ---- A small MNIST, and mirrors on this computer ----------------------------------------------------------


def make_arrays(seed=0):
    random = np.random.default_rng(seed)
    return {
        "x_train": random.integers(0, 256, (60, 28, 28), dtype=np.uint8),
        "y_train": np.arange(60, dtype=np.uint8) % 10,
        "x_test": random.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "y_test": np.arange(20, dtype=np.uint8)[::-1] % 10,
    }


def as_npz(arrays, save=np.savez_compressed):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def as_idx(array):
    sizes = np.array(array.shape, ">i4")
    return bytes([0, 0, 8, array.ndim]) + sizes.tobytes() + array.tobytes()


TINY = make_arrays()
TINY_SHAPES = {name: array.shape for name, array in TINY.items()}
TINY_DIGESTS = {name: hashlib.sha256(array).hexdigest() for name, array in TINY.items()}
NPZ = as_npz(TINY)
OTHER_NPZ = as_npz(make_arrays(seed=1))
WEB_PAGE = b"<!DOCTYPE html>\n<title>Please log in</title>" + b" " * 5000
IDX_FILES = {
    "train-images-idx3-ubyte": as_idx(TINY["x_train"]),
    "train-labels-idx1-ubyte": as_idx(TINY["y_train"]),
    "t10k-images-idx3-ubyte": as_idx(TINY["x_test"]),
    "t10k-labels-idx1-ubyte": as_idx(TINY["y_test"]),
}


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """No test sees the data, caches, network or memories of another, or of this computer."""
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")  # which urllib asks first
    monkeypatch.setattr(data, "MIRRORS", ())
    monkeypatch.setattr(data, "_last_failure", {"when": -float("inf"), "why": ""})
    monkeypatch.setattr(data, "_announced", {data.ON_PURPOSE})


@pytest.fixture
def tiny(monkeypatch):
    """Let the small arrays count as MNIST."""
    monkeypatch.setattr(data, "SHAPES", TINY_SHAPES)
    monkeypatch.setattr(data, "SHA256", TINY_DIGESTS)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


class Server:
    """A web server on loopback: `files` maps a path to bytes, or to a function that answers with the handler."""

    def __init__(self):
        self.files, self.asked, self.over = {}, [], threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                answer = server.files.get(self.path)
                try:
                    if callable(answer):
                        answer(self)
                    elif answer is None:
                        self.send_error(404)
                    else:
                        start(self, len(answer))
                        self.wfile.write(answer)
                except OSError:
                    pass  # the client hung up, as some tests want it to

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()


def start(handler, size=None):
    handler.send_response(200)
    if size is not None:
        handler.send_header("Content-Length", str(size))
    handler.end_headers()


@pytest.fixture
def serve():
    """Start a mirror: serve(npz=answer) or serve(**{path: answer}); each call starts another one."""
    servers = []

    def make(npz=None, **files):
        server = Server()
        server.files = {"/mnist.npz": npz} | {f"/{name}": answer for name, answer in files.items()}
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def mirrors(monkeypatch):
    def use(*addresses):
        monkeypatch.setattr(data, "MIRRORS", addresses)

    return use


def load(**options):
    return load_mnist(**{"n_valid": 10, "scale": False} | options)


def is_tiny(loaded):
    return loaded.name == "MNIST" and np.array_equal(loaded.x_test, TINY["x_test"])


def put(path, content=NPZ):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---- What load_mnist returns ------------------------------------------------------------------------------


@pytest.fixture
def at_hand(tiny, cache):
    put(cache / "mnist.npz")


def test_split_keeps_the_order(at_hand):
    loaded = load()
    assert np.array_equal(loaded.x_train, TINY["x_train"][:50])
    assert np.array_equal(loaded.y_train, TINY["y_train"][:50])
    assert np.array_equal(loaded.x_valid, TINY["x_train"][50:])
    assert np.array_equal(loaded.y_valid, TINY["y_train"][50:])
    assert np.array_equal(loaded.x_test, TINY["x_test"])
    assert np.array_equal(loaded.y_test, TINY["y_test"])


def test_sizes(at_hand):
    loaded = load(n_train=7, n_valid=4, n_test=3)
    assert np.array_equal(loaded.x_train, TINY["x_train"][:7])
    assert np.array_equal(loaded.x_valid, TINY["x_train"][56:])
    assert np.array_equal(loaded.y_valid, TINY["y_train"][56:])
    assert np.array_equal(loaded.x_test, TINY["x_test"][:3])


def test_no_validation_data(at_hand):
    loaded = load(n_valid=0)
    assert len(loaded.x_train) == len(loaded.y_train) == 60
    assert loaded.x_valid.shape == (0, 28, 28)


def test_scale(at_hand):
    loaded = load(scale=True)
    for part in ("train", "valid", "test"):
        scaled, raw = getattr(loaded, f"x_{part}"), getattr(load(), f"x_{part}")
        assert scaled.dtype == np.float32
        assert raw.dtype == np.uint8
        assert np.array_equal(scaled, raw.astype(np.float32) / np.float32(255))
    assert loaded.x_train.max() == 1


def test_arrays_can_be_written_to(at_hand):
    loaded = load()
    loaded.x_train[0] = 0
    loaded.y_test[0] = 0


def test_flatten_and_channels(at_hand):
    plain, flat, deep = load(), load(flatten=True), load(channels=True)
    assert flat.x_train.shape == (50, 784)
    assert deep.x_valid.shape == (10, 28, 28, 1)
    assert np.array_equal(flat.x_test[3], plain.x_test[3].ravel())
    assert np.array_equal(deep.x_test[..., 0], plain.x_test)


def test_labels(at_hand):
    plain, one_hot = load(), load(one_hot=True)
    assert plain.y_train.dtype == np.int64
    assert one_hot.y_train.dtype == np.float32
    assert one_hot.y_test.shape == (20, 10)
    assert np.array_equal(one_hot.y_test.argmax(axis=1), plain.y_test)
    assert np.array_equal(one_hot.y_test.sum(axis=1), np.ones(20))


@pytest.mark.parametrize(
    "options",
    [
        {"n_train": 51},
        {"n_train": 0},
        {"n_train": -1},
        {"n_train": 2.5},
        {"n_train": True},
        {"n_valid": 60},
        {"n_valid": -1},
        {"n_valid": None},
        {"n_test": 21},
        {"n_test": -1},
        {"flatten": True, "channels": True},
    ],
)
@pytest.mark.parametrize("place", ["cache", "digits"])
def test_impossible_arguments(at_hand, monkeypatch, options, place):
    if place == "digits":
        monkeypatch.setenv("LABKIT_DATA", "digits")
    with pytest.raises(ValueError, match=r"\.$") as caught:
        load(**options)
    assert one_sentence(caught.value)
    assert any(name in str(caught.value) for name in options)


def test_repr(at_hand):
    assert repr(load(n_train=7, one_hot=True)) == textwrap.dedent("""\
        MNIST, pixels from 0 to 255
          x_train  (7, 28, 28)         uint8
          y_train  (7, 10)             float32
          x_valid  (10, 28, 28)        uint8
          y_valid  (10, 10)            float32
          x_test   (20, 28, 28)        uint8
          y_test   (20, 10)            float32""")


# ---- Containers and places --------------------------------------------------------------------------------


def fill(folder, container):
    """Put the small MNIST into a folder, in one of the forms that it comes in."""
    if container == "npz":
        put(folder / "mnist.npz")
    elif container == "uncompressed npz":
        put(folder / "mnist.npz", as_npz(TINY, np.savez))
    for name, content in IDX_FILES.items():
        if container == "idx":
            put(folder / name, content)
        elif container == "idx.gz":
            put(folder / f"{name}.gz", gzip.compress(content))
        elif container == "dotted idx":
            put(folder / name.replace("-idx", ".idx"), content)


CONTAINERS = ["npz", "uncompressed npz", "idx", "idx.gz", "dotted idx"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same(tiny, cache, tmp_path, monkeypatch, capsys, container):
    fill(tmp_path / "here", container)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "here"))
    loaded = load()
    monkeypatch.delenv("LABKIT_DATA")
    put(cache / "mnist.npz")
    reference = load()
    assert reference.source != loaded.source
    assert repr(reference) == repr(loaded)
    assert str(tmp_path) not in repr(loaded) + loaded.source
    for name in ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test"):
        assert np.array_equal(getattr(reference, name), getattr(loaded, name))
    assert capsys.readouterr() == ("", "")


def test_labkit_data_may_be_a_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(put(tmp_path / "renamed.npz")))
    assert is_tiny(load())
    fill(tmp_path / "idx", "idx.gz")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "idx" / "train-images-idx3-ubyte.gz"))
    assert is_tiny(load())


def test_labkit_data_may_be_relative(tiny, tmp_path, monkeypatch):
    fill(tmp_path / "work" / "near", "npz")
    fill(tmp_path / "project" / "far", "npz")
    monkeypatch.setattr(data, "PROJECT", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "work")
    for value in ("near", "far", " far "):
        monkeypatch.setenv("LABKIT_DATA", value)
        assert is_tiny(load())


def test_empty_labkit_data_means_unset(at_hand, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", "")
    assert load().source == "the cache"


def test_order_of_places(tiny, cache, tmp_path, monkeypatch, serve, mirrors):
    mirror = serve(npz=NPZ)
    mirrors(f"{mirror.url}/mnist.npz")
    put(tmp_path / "mine" / "mnist.npz")
    put(cache / "mnist.npz")
    put(tmp_path / "keras" / "datasets" / "mnist.npz")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "mine"))
    assert load().source == "LABKIT_DATA"
    monkeypatch.delenv("LABKIT_DATA")
    assert load().source == "the cache"
    (cache / "mnist.npz").unlink()
    assert load().source == "Keras's cache"
    assert mirror.asked == []
    (tmp_path / "keras" / "datasets" / "mnist.npz").unlink()
    assert load().source == "download from " + mirror.url.removeprefix("http://")
    assert load().source == "the cache"
    assert mirror.asked == ["/mnist.npz"]


BAD_FILES = {
    "truncated": (NPZ[: len(NPZ) // 2], "damaged or incomplete"),
    "empty": (b"", "damaged or incomplete"),
    "noise": (bytes(range(256)) * 20, "damaged or incomplete"),
    "other digits": (OTHER_NPZ, "the digest of its x_train differs"),
    "web page": (WEB_PAGE, "is a web page"),
    "lacks an array": (as_npz({"x_train": TINY["x_train"]}), "damaged or incomplete"),
    "float pixels": (as_npz(TINY | {"x_train": TINY["x_train"] / 255}), "another shape or type"),
    "one flipped bit": (as_npz(TINY | {"y_test": TINY["y_test"] ^ 1}), "the digest of its y_test differs"),
}


def one_sentence(error):
    text = str(error)
    return "\n" not in text and text.endswith(".") and ". " not in text


@pytest.mark.parametrize(("content", "why"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_in_labkit_data_is_refused(at_hand, tmp_path, monkeypatch, content, why):
    monkeypatch.setenv("LABKIT_DATA", str(put(tmp_path / "here" / "mnist.npz", content).parent))
    with pytest.raises(DataError, match=why) as caught:
        load()
    assert one_sentence(caught.value)
    assert caught.value.__suppress_context__  # plain Python then prints one short traceback, not two


@pytest.mark.parametrize(("content", "why"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_in_a_cache_is_passed_over(tiny, cache, tmp_path, capsys, content, why):
    mine = put(cache / "mnist.npz", content)
    put(tmp_path / "keras" / "datasets" / "mnist.npz")
    assert load().source == "Keras's cache"
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "Passed over the cache" in printed
    assert why in printed
    assert mine.read_bytes() == content


def test_bad_file_in_keras_cache_is_left_alone(tiny, tmp_path, capsys, serve, mirrors):
    theirs = put(tmp_path / "keras" / "datasets" / "mnist.npz", OTHER_NPZ)
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    assert is_tiny(load())
    assert "Passed over Keras's cache" in capsys.readouterr().out
    assert theirs.read_bytes() == OTHER_NPZ


BAD_IDX = {
    "truncated": IDX_FILES["train-images-idx3-ubyte"][:-1],
    "truncated gzip": gzip.compress(IDX_FILES["train-images-idx3-ubyte"])[:-2000],
    "header": b"\0\0\x08\x01" + IDX_FILES["train-images-idx3-ubyte"][4:],
    "pixels": as_idx(255 - TINY["x_train"]),
    "web page": WEB_PAGE,
    "empty": b"",
}


@pytest.mark.parametrize("content", BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx_file_is_refused(tiny, tmp_path, monkeypatch, content):
    fill(tmp_path, "idx")
    put(tmp_path / "train-images-idx3-ubyte", content)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with pytest.raises(DataError, match="train-images-idx3-ubyte that is") as caught:
        load()
    assert one_sentence(caught.value)


def test_missing_data_is_refused(at_hand, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="does not exist") as caught:
        load()
    assert one_sentence(caught.value)
    fill(tmp_path / "idx", "idx")
    (tmp_path / "idx" / "t10k-labels-idx1-ubyte").unlink()
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "idx"))
    with pytest.raises(DataError, match=r"neither mnist\.npz nor t10k-labels"):
        load()


class Exploit:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickle_is_refused_and_not_run(tiny, tmp_path, monkeypatch):
    trap = np.empty((60, 28, 28), object)
    trap[:] = Exploit(tmp_path / "trapped")
    monkeypatch.setenv("LABKIT_DATA", str(put(tmp_path / "mnist.npz", as_npz(TINY | {"x_train": trap}))))
    with pytest.raises(DataError, match="another shape or type"):
        load()
    assert not (tmp_path / "trapped").exists()
    np.load(tmp_path / "mnist.npz", allow_pickle=True)["x_train"]
    assert (tmp_path / "trapped").exists()  # so the trap would have worked


def npy_header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**12,), (50_000_000,), (60, 28, 28)])
def test_zip_bomb_takes_no_memory(tiny, tmp_path, monkeypatch, shape):
    with zipfile.ZipFile(tmp_path / "mnist.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", npy_header(shape) + bytes(50_000_000))
    check_memory(tmp_path, monkeypatch)


def test_gzip_bomb_takes_no_memory(tiny, tmp_path, monkeypatch):
    fill(tmp_path, "idx.gz")
    header = IDX_FILES["train-images-idx3-ubyte"][:16]
    put(tmp_path / "train-images-idx3-ubyte.gz", gzip.compress(header + bytes(50_000_000), 1))
    check_memory(tmp_path, monkeypatch)


def check_memory(path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(path))
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            load()
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


# ---- Downloading ------------------------------------------------------------------------------------------


def files_in(folder):
    return sorted(path.name for path in folder.glob("*"))


def test_download_is_kept_as_it_came(tiny, cache, capsys, serve, mirrors):
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    assert is_tiny(load())
    assert files_in(cache) == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == NPZ
    assert capsys.readouterr() == ("", "")


def test_download_of_idx_files(tiny, cache, serve, mirrors):
    mirror = serve(**{f"data/{name}.gz": gzip.compress(content) for name, content in IDX_FILES.items()})
    mirrors(f"{mirror.url}/data/")
    assert is_tiny(load())
    assert files_in(cache) == ["mnist.npz"]
    mirrors()
    assert is_tiny(load())


def test_download_without_announced_size(tiny, serve, mirrors):
    def answer(handler):
        start(handler)
        handler.wfile.write(NPZ)

    mirrors(serve(npz=answer).url + "/mnist.npz")
    assert is_tiny(load())


def redirect(target):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    return answer


def test_redirection_is_followed_to_the_web_only(tiny, tmp_path, capsys, serve, mirrors):
    good = serve(npz=NPZ)
    local = put(tmp_path / "elsewhere" / "mnist.npz").as_uri()
    for target in (local, local.replace("file:", "ftp:")):
        mirrors(serve(npz=redirect(target)).url + "/mnist.npz")
        data._last_failure["when"] = -float("inf")
        assert load().name == "digits"
    # urllib's own opener would not follow these either; but nothing that could read them may be there.
    handlers = {type(handler).__name__ for handler in data._opener().handlers}
    assert handlers.isdisjoint({"FileHandler", "FTPHandler", "DataHandler"})
    mirrors(serve(npz=redirect(f"{good.url}/mnist.npz")).url + "/mnist.npz")
    data._last_failure["when"] = -float("inf")
    assert is_tiny(load())


def test_mirrors_are_trusted_where_the_system_knows_no_authorities(monkeypatch):
    def empty():  # what Python from python.org has on a Mac
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    assert empty().cert_store_stats()["x509_ca"] == 0
    monkeypatch.setattr(ssl, "create_default_context", empty)
    (handler,) = (one for one in data._opener().handlers if isinstance(one, urllib.request.HTTPSHandler))
    assert handler._context.cert_store_stats()["x509_ca"] > 50
    assert handler._context.check_hostname
    assert handler._context.verify_mode == ssl.CERT_REQUIRED


def test_local_address_is_no_mirror(tiny, tmp_path, capsys, mirrors):
    mirrors(put(tmp_path / "elsewhere" / "mnist.npz").as_uri())
    assert load().name == "digits"


def closed_port(_):
    server = Server()
    server.stop()
    return server.url


def mirror_with(answer):
    return lambda serve: serve(npz=answer).url


def break_off(handler):
    start(handler, len(NPZ))
    handler.wfile.write(NPZ[: len(NPZ) // 2])


def stall(handler):
    break_off(handler)
    handler.wfile.flush()
    time.sleep(10)


def drip(handler):
    start(handler, len(NPZ))
    for i in range(300):
        handler.wfile.write(NPZ[i : i + 1])
        handler.wfile.flush()
        time.sleep(0.03)


def say_nothing(_):
    time.sleep(10)


# What a mirror can do wrong: how to make one that does it, and what the notice says about it.
FAULTS = {
    "truncated": (mirror_with(NPZ[: len(NPZ) // 2]), "sent a file that is damaged or incomplete"),
    "breaks off": (mirror_with(break_off), "broke off"),
    "wrong digest": (mirror_with(OTHER_NPZ), "sent a file that is not MNIST"),
    "web page": (mirror_with(WEB_PAGE), "sent a file that is a web page"),
    "not found": (mirror_with(None), "answered with error 404"),
    "closed port": (closed_port, "could not be reached"),
    "stalls": (mirror_with(stall), "stopped sending"),
    "says nothing": (mirror_with(say_nothing), "did not answer within 1 seconds"),
    "drips": (mirror_with(drip), "needed more than 1 seconds"),
    "never ends": (mirror_with(NPZ * 3), "sent far more than MNIST"),
}


@pytest.fixture
def impatient(tiny, monkeypatch):
    monkeypatch.setattr(data, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(data, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(data, "MIRROR_SECONDS", 1)
    monkeypatch.setattr(data, "MAX_BYTES", 2 * len(NPZ))


@pytest.mark.parametrize(("make", "why"), FAULTS.values(), ids=FAULTS)
def test_next_mirror_helps(impatient, cache, capsys, serve, mirrors, make, why):
    mirrors(make(serve) + "/mnist.npz", serve(npz=NPZ).url + "/mnist.npz")
    assert is_tiny(load())
    assert files_in(cache) == ["mnist.npz"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("before", [None, OTHER_NPZ], ids=["no file", "bad file"])
@pytest.mark.parametrize(("make", "why"), FAULTS.values(), ids=FAULTS)
def test_without_a_good_mirror_the_stand_in_is_used(impatient, cache, capsys, serve, mirrors, make, why, before):
    if before:
        put(cache / "mnist.npz", before)
    mirrors(make(serve) + "/mnist.npz")
    begin = time.monotonic()
    assert load().name == "digits"
    assert time.monotonic() - begin < 5
    printed = " ".join(capsys.readouterr().out.replace("#", "").split())
    assert "THIS IS NOT MNIST" in printed
    assert why in printed
    assert "Traceback" not in printed
    if before:  # the cache is as it was
        assert (cache / "mnist.npz").read_bytes() == before
        assert files_in(cache) == ["mnist.npz"]
    else:
        assert not cache.exists()


@pytest.mark.parametrize(
    "trouble, said",
    [
        (socket.gaierror(-2, "Name or service not known"), "could not be found (is there a network?)"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "could not be trusted"),
    ],
)
def test_unknown_or_doubtful_host(impatient, capsys, mirrors, monkeypatch, trouble, said):
    def resolve(*_, **__):
        raise trouble

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    mirrors("http://no-such-host.invalid/mnist.npz", "http://no-such-host.invalid/data/")
    assert load().name == "digits"
    printed = capsys.readouterr().out
    assert said in printed
    assert printed.count("no-such-host.invalid") == 2  # the reason, and where to get MNIST


def test_unreachable_host_is_tried_once(impatient, capsys, serve, mirrors):
    mirror = serve(npz=say_nothing)
    mirrors(f"{mirror.url}/mnist.npz", f"{mirror.url}/data/")
    assert load().name == "digits"
    assert mirror.asked == ["/mnist.npz"]


def test_slow_resolver_is_not_waited_for(impatient, monkeypatch, capsys, mirrors):
    def slow(*_, **__):
        time.sleep(10)

    monkeypatch.setattr("socket.getaddrinfo", slow)
    mirrors("http://mirror.invalid/mnist.npz")
    begin = time.monotonic()
    assert load().name == "digits"
    assert time.monotonic() - begin < 5


def test_failed_download_is_not_repeated_at_once(tiny, monkeypatch, capsys, serve, mirrors):
    mirror = serve()
    mirrors(f"{mirror.url}/mnist.npz")
    load()
    load()
    assert len(mirror.asked) == 1
    first, again = capsys.readouterr().out.split("#" * 80)[1:]
    assert "THIS IS NOT MNIST" in first
    assert again.strip().count("\n") == 0
    assert "not MNIST" in again
    mirror.files["/mnist.npz"] = NPZ
    monkeypatch.setattr(data, "RETRY_SECONDS", 0)
    assert is_tiny(load())


# ---- Keeping the download ---------------------------------------------------------------------------------


def fail(code):
    def failing(*_, **__):
        raise OSError(code, os.strerror(code))

    return failing


def cannot_write(monkeypatch, tmp_path, how):
    if how == "cache path below a file":
        monkeypatch.setenv("LABKIT_CACHE", str(put(tmp_path / "file", b"") / "cache"))
    elif how == "read-only folder":
        monkeypatch.setattr(Path, "mkdir", fail(errno.EROFS))
    elif how == "rename forbidden":
        monkeypatch.setattr(os, "replace", fail(errno.EACCES))
    elif how == "disk full":
        monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))


OBSTACLES = ["cache path below a file", "read-only folder", "rename forbidden", "disk full"]


@pytest.mark.parametrize("how", OBSTACLES)
def test_download_is_used_though_it_cannot_be_kept(tiny, cache, tmp_path, monkeypatch, capsys, serve, mirrors, how):
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    cannot_write(monkeypatch, tmp_path, how)
    assert is_tiny(load())
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "MNIST was downloaded and is used, but it could not be kept in" in printed
    assert files_in(cache) == []


def test_bad_file_survives_a_full_disk_and_is_mended_later(tiny, cache, monkeypatch, serve, mirrors):
    put(cache / "mnist.npz", OTHER_NPZ)
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail(errno.ENOSPC))
        assert is_tiny(load())
    assert (cache / "mnist.npz").read_bytes() == OTHER_NPZ
    assert files_in(cache) == ["mnist.npz"]
    assert is_tiny(load())
    assert (cache / "mnist.npz").read_bytes() == NPZ


def test_another_kernel_that_was_first_is_no_fault(tiny, cache, monkeypatch, capsys, serve, mirrors):
    def replace(*_):
        put(cache / "mnist.npz")
        raise PermissionError(errno.EACCES, "the file is open")

    monkeypatch.setattr(os, "replace", replace)
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    assert is_tiny(load())
    assert capsys.readouterr().out == ""
    assert files_in(cache) == ["mnist.npz"]


def test_old_partial_files_are_removed(tiny, cache, serve, mirrors):
    old, new, other = (put(cache / name, b"half") for name in ("mnist-a.part", "mnist-b.part", "thesis.part"))
    for path, hours in ((old, 2), (new, 0.5), (other, 2)):
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    assert is_tiny(load())
    assert files_in(cache) == ["mnist-b.part", "mnist.npz", "thesis.part"]


LOADER = """
import json, sys
from labkit import data
shapes, data.SHA256, data.MIRRORS = json.loads(sys.argv[1])
data.SHAPES = {name: tuple(shape) for name, shape in shapes.items()}
"""
LOAD = "print(data.load_mnist(n_valid=10).source)"


def process(url, code=LOAD):
    """Run the code in a Python of its own, for which the small arrays count as MNIST."""
    settings = json.dumps([TINY_SHAPES, TINY_DIGESTS, [f"{url}/mnist.npz"]])
    environment = os.environ | {"PYTHONPATH": str(data.PROJECT)}
    return subprocess.Popen([sys.executable, "-c", LOADER + code, settings], stdout=subprocess.PIPE, env=environment)


def test_two_processes_at_once(cache, serve):
    both = threading.Barrier(2)

    def answer(handler):
        both.wait(15)  # nobody is served before both have asked, so neither finds the other's file
        start(handler, len(NPZ))
        handler.wfile.write(NPZ)

    mirror = serve(npz=answer)
    processes = [process(mirror.url), process(mirror.url)]
    outputs = [process.communicate(timeout=30)[0].decode().strip() for process in processes]
    assert outputs == ["download from " + mirror.url.removeprefix("http://")] * 2
    assert files_in(cache) == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == NPZ


@pytest.mark.slow
def test_killed_while_downloading(tiny, cache, serve, mirrors):
    half_way = threading.Event()

    def answer(handler):
        break_off(handler)
        handler.wfile.flush()
        half_way.set()
        mirror.over.wait(15)

    mirror = serve(npz=answer)
    victim = process(mirror.url)
    assert half_way.wait(15)
    time.sleep(0.1)
    victim.kill()
    victim.communicate()
    assert not (cache / "mnist.npz").exists()
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    assert is_tiny(load())


@pytest.mark.slow
def test_killed_while_writing(tiny, cache, serve, mirrors):
    mirror = serve(npz=NPZ)
    victim = process(mirror.url, "import os, time; os.fsync = lambda _: time.sleep(60)\n" + LOAD)
    begin = time.monotonic()
    while not list(cache.glob("*.part")) and time.monotonic() - begin < 15:
        time.sleep(0.02)
    victim.kill()
    victim.communicate()
    (partial,) = cache.glob("*")
    assert partial.suffix == ".part"
    mirrors(f"{mirror.url}/mnist.npz")
    assert is_tiny(load())


# ---- What people see --------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_shows_on_a_terminal_and_goes_away(tiny, monkeypatch, serve, mirrors):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    load()
    *_, shown, blank, rest = terminal.getvalue().split("\r")
    assert shown.startswith("Downloading MNIST from 127.0.0.1")
    assert "%" in shown
    assert blank == " " * len(shown)
    assert rest == ""


def test_in_a_notebook(serve):
    """A download leaves nothing in the stored outputs, and a DataError shows no stack trace."""
    import nbformat
    from nbclient import NotebookClient

    mirror = serve(npz=NPZ)
    settings = ["x", json.dumps([TINY_SHAPES, TINY_DIGESTS, [f"{mirror.url}/mnist.npz"]])]
    cells = [
        f"import sys; sys.path.insert(0, {str(data.PROJECT)!r}); sys.argv = {settings!r}\n{LOADER}",
        "digits = data.load_mnist(n_valid=10); assert digits.source.startswith('download')",
        "import os; os.environ['LABKIT_DATA'] = 'nowhere'; data.load_mnist(n_valid=10)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=30, allow_errors=True, km=runner.kernel_manager()).execute()
    assert mirror.asked == ["/mnist.npz"]
    assert [cell.outputs for cell in notebook.cells[:2]] == [[], []]
    (error,) = notebook.cells[2].outputs
    assert error.ename == "DataError"
    assert " ".join(error.traceback) == f"DataError: {error.evalue}"  # in lines, without a stack trace
    assert "nowhere, which does not exist" in error.evalue


def test_notice(monkeypatch, capsys, serve):
    address = serve().url + "/mnist.npz"
    monkeypatch.setattr(data, "MIRRORS", (address,))
    load_mnist(n_train=1000)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert {len(line) for line in lines} == {80}
    assert lines[0] == lines[-1] == "#" * 80
    assert printed.isascii()  # some consoles can print nothing else
    text = " ".join(printed.replace("#", "").split())
    for part in ("NOT MNIST", "error 404", "1,797 real images", "1,000 training", "350 test", "`labs data`", address):
        assert part in text


def test_digits_on_purpose(monkeypatch, capsys, serve, mirrors):
    mirror = serve(npz=NPZ)
    mirrors(f"{mirror.url}/mnist.npz")
    monkeypatch.setenv("LABKIT_DATA", "digits")
    assert load_mnist().name == "digits"
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "not MNIST" in printed
    assert mirror.asked == []


def test_status(tiny, cache, tmp_path, monkeypatch):
    keras = tmp_path / "keras" / "datasets" / "mnist.npz"
    assert data.status() == [
        ("the cache", str(cache), "does not exist"),
        ("Keras's cache", str(keras), "does not exist"),
    ]
    put(cache / "mnist.npz", WEB_PAGE)
    put(keras)
    assert [state for _, _, state in data.status()] == ["holds a mnist.npz that is a web page, not data", "MNIST"]
    monkeypatch.setenv("LABKIT_DATA", str(keras))
    assert data.status() == [("LABKIT_DATA", str(keras), "MNIST")]
    monkeypatch.setenv("LABKIT_DATA", "digits")
    ((place, _, state),) = data.status()
    assert place == "LABKIT_DATA"
    assert "on purpose" in state


def test_fetch(tiny, cache, serve, mirrors):
    mirror = serve(npz=NPZ)
    mirrors(f"{mirror.url}/mnist.npz")
    assert data.fetch() == cache
    assert data.fetch() == cache
    assert mirror.asked == ["/mnist.npz"]
    mirrors()
    assert load().source == "the cache"


def test_fetch_that_fails(tiny, tmp_path, monkeypatch, serve, mirrors):
    mirrors(serve().url + "/mnist.npz")
    with pytest.raises(DataError, match="error 404") as caught:
        data.fetch()
    assert one_sentence(caught.value)
    mirrors(serve(npz=NPZ).url + "/mnist.npz")
    cannot_write(monkeypatch, tmp_path, "disk full")
    with pytest.raises(DataError, match="could not be kept") as caught:
        data.fetch()
    assert one_sentence(caught.value)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/nn-labs"),
        ("linux", {}, "/home/ada/.cache/nn-labs"),
        ("darwin", {}, "/home/ada/Library/Caches/nn-labs"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/nn-labs/Cache"),
        ("win32", {}, "/home/ada/AppData/Local/nn-labs/Cache"),
        ("linux", {"LABKIT_CACHE": "/mine"}, "/mine"),
    ],
)
def test_cache_folder(monkeypatch, platform, variables, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "LABKIT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    assert data.cache_folder() == Path(expected)


# ---- The stand-in -----------------------------------------------------------------------------------------


@pytest.fixture
def digits(monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_DATA", "digits")
    loaded = load_mnist(scale=False)
    capsys.readouterr()
    return loaded


def test_digits_look_like_mnist(digits):
    assert digits.x_train.shape == (27_425, 28, 28)
    assert digits.x_valid.shape == digits.x_test.shape == (350, 28, 28)
    assert digits.x_train.dtype == np.uint8
    assert (digits.x_train.min(), digits.x_train.max()) == (0, 255)
    for images in (digits.x_train[:1097], digits.x_valid, digits.x_test):
        border = images.copy()
        border[:, 4:24, 4:24] = 0
        assert not border.any()
    assert 0.15 < (digits.x_train > 0).mean() < 0.25  # MNIST: 0.19
    assert 30 < digits.x_train.mean() < 45  # MNIST: 33
    assert 70 < digits.x_train.std() < 90  # MNIST: 79
    assert np.bincount(digits.y_train).min() > 0.08 * len(digits.y_train)


def test_digits_are_those_of_scikit_learn(digits):
    """Sampled at the centres of the 8x8 cells, each picture resembles one bundled image most, with the same label."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    originals = bundle.data - bundle.data.mean(axis=1, keepdims=True)
    originals /= np.linalg.norm(originals, axis=1, keepdims=True)
    pixels = np.concatenate([digits.x_train[:1097], digits.x_valid, digits.x_test])
    labels = np.concatenate([digits.y_train[:1097], digits.y_valid, digits.y_test])
    centres = (4 + 2.5 * (np.arange(8) + 0.5)).astype(int)
    small = pixels[:, centres][:, :, centres].reshape(len(pixels), 64).astype(float)
    small -= small.mean(axis=1, keepdims=True)
    nearest = (small @ originals.T).argmax(axis=1)
    assert np.mean(bundle.target[nearest] == labels) > 0.995
    assert len(set(nearest)) > 0.95 * 1797  # every image is used once


def test_digits_do_not_leak(digits):
    train = {image.tobytes() for image in digits.x_train}
    held_out = [image.tobytes() for image in np.concatenate([digits.x_valid, digits.x_test])]
    assert len(set(held_out)) == len(held_out) == 700
    assert train.isdisjoint(held_out)


def test_digits_are_lengthened_by_shifting(digits):
    images = digits.x_train.reshape(25, 1097, 28, 28)
    labels = digits.y_train.reshape(25, 1097)
    assert (labels == labels[0]).all()
    assert len({image.tobytes() for image in images[0]}) == 1097
    wide = np.pad(images[0], ((0, 0), (2, 2), (2, 2)))
    shifts = []
    for copies in images:
        shifts += [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(copies, wide[:, 2 - down : 30 - down, 2 - right : 30 - right])
        ]
    assert shifts[0] == (0, 0)
    assert len(shifts) == len(set(shifts)) == 25


def test_digits_with_other_sizes(digits, capsys):
    small = load_mnist(n_train=100, n_valid=20, n_test=30, scale=False)
    assert (len(small.x_train), len(small.x_valid), len(small.x_test)) == (100, 20, 30)
    assert np.array_equal(small.x_train, digits.x_train[:100])
    assert np.array_equal(small.x_valid, digits.x_valid[:20])
    none = load_mnist(n_train=60_000, n_valid=0)
    assert (len(none.x_train), len(none.x_valid)) == (27_425, 0)
    assert "27,425 training, 0 validation and 350 test" in capsys.readouterr().out


def test_digits_obey_the_other_arguments(digits):
    loaded = load_mnist(flatten=True, one_hot=True)
    assert loaded.x_train.shape == (27_425, 784)
    assert loaded.x_train.dtype == np.float32
    assert loaded.x_test.max() == 1
    assert np.array_equal(loaded.y_test.argmax(axis=1), digits.y_test)
    assert load_mnist(channels=True).x_valid.shape == (350, 28, 28, 1)


# ---- MNIST itself -----------------------------------------------------------------------------------------


@pytest.fixture
def mnist(monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", REAL)


@needs_mnist
def test_mnist(mnist):
    tracemalloc.start()
    loaded = load_mnist()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 300e6  # float32 takes 220 MB; a detour through float64 would take 376 MB more
    assert repr(loaded) == textwrap.dedent("""\
        MNIST, pixels from 0.0 to 1.0
          x_train  (50000, 28, 28)     float32
          y_train  (50000,)            int64
          x_valid  (10000, 28, 28)     float32
          y_valid  (10000,)            int64
          x_test   (10000, 28, 28)     float32
          y_test   (10000,)            int64""")
    assert loaded.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert loaded.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(np.concatenate([loaded.y_train, loaded.y_valid])).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


@needs_mnist
def test_mnist_from_idx_files(mnist, tmp_path, monkeypatch):
    """MNIST's files have known MD5 digests, published long before the SHA-256 ones in labkit."""
    published = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    loaded = load(n_valid=0)
    arrays = (loaded.x_train, loaded.y_train.astype(np.uint8), loaded.x_test, loaded.y_test.astype(np.uint8))
    for (name, digest), array in zip(published.items(), arrays, strict=True):
        path = put(tmp_path / "idx" / name, as_idx(array))
        assert hashlib.md5(path.read_bytes()).hexdigest() == digest
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "idx"))
    assert repr(load(n_valid=0)) == repr(loaded)
