"""labkit.data: the split, every place that MNIST can come from, what can go wrong on the way, and the stand-in."""
# ruff: noqa: PLR0917 (a test takes each fixture as an argument)

import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from labkit import data
from labkit.data import DataError, load_mnist
from labkit.errors import LabError

# Where `labs data` has found it, if the tests run on the stand-in by choice or for want of it.
CHOSEN = os.environ.get("LABKIT_DATA", "").strip()
REAL = CHOSEN if CHOSEN not in ("", "digits") else str(data.cache_folder() / "mnist.npz")

# ---- A small MNIST, and a web server on this computer ------------------------------------------------------


def make_arrays(seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (80, 28, 28), dtype=np.uint8)
    labels = np.arange(80, dtype=np.uint8) % 10
    return {"x_train": images[:60], "y_train": labels[:60], "x_test": images[60:], "y_test": labels[20:40] ^ 1}


def as_npz(save=np.savez_compressed, **changes):
    file = io.BytesIO()
    save(file, **(TINY | changes))
    return file.getvalue()


def as_idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


TINY, OTHER = make_arrays(), make_arrays(seed=1)
SHAPES = {name: array.shape for name, array in TINY.items()}
DIGESTS = {name: hashlib.sha256(array).hexdigest() for name, array in TINY.items()}
NPZ, OTHER_NPZ = as_npz(), as_npz(**OTHER)
IDX = {data.IDX_NAMES[name]: as_idx(array) for name, array in TINY.items()}
IMAGES = "train-images-idx3-ubyte"
WEB_PAGE = b"\n<!DOCTYPE html>\n<title>Please log in</title>" + b" " * 5000


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """No test sees the data, caches, network or memories of another, or of this computer."""
    for name in ("LABKIT_DATA", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(data, "ADDRESSES", ())
    monkeypatch.setattr(data, "_session", {"failed": -float("inf"), "why": "", "announced": False})


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The cache folder; the small arrays count as MNIST."""
    monkeypatch.setattr(data, "SHAPES", SHAPES)
    monkeypatch.setattr(data, "SHA256", DIGESTS)
    return tmp_path / "cache"


def put(path, content=NPZ):
    """Write a file, or with a dict the files of a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, dict):
        path.write_bytes(content)
    for name in content if isinstance(content, dict) else ():
        put(path / name, content[name])
    return path


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the server's answer to a path: bytes, or what a function of this handler does; an error to others."""

    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if callable(answer):
            answer(self)
        elif answer is None:
            self.send_error(407 if "://" in self.path else 404)  # a proxy is asked for whole addresses
        else:
            self.start(len(answer))
            self.wfile.write(answer)

    def start(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def offer(cache, monkeypatch):
    """Let labkit's addresses be those of a web server with these answers: offer(answer, ...)."""
    servers = []

    def start(*answers, certificate=None):
        servers.append(server := http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        web = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.asked, server.answers = [], {f"/{number}.npz": answer for number, answer in enumerate(answers)}
        server.host = f"127.0.0.1:{server.server_port}"
        monkeypatch.setattr(data, "ADDRESSES", [{"npz": f"{web}://{server.host}{path}"} for path in server.answers])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def load(**options):
    return load_mnist(**{"n_valid": 10, "scale": False} | options)


def is_tiny(loaded):
    same = [np.array_equal(getattr(loaded, f"{kind}_test"), TINY[f"{kind}_test"]) for kind in "xy"]
    return loaded.name == "MNIST" and all(same) and np.array_equal(loaded.y_train, TINY["y_train"][:50])


def is_one_sentence(text):
    return "\n" not in text.strip() and text.strip().endswith(".") and ". " not in text


def printed(capsys):
    """What was printed, without the frame of the notice."""
    return " ".join(capsys.readouterr().out.replace("#", "").split())


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


# ---- What load_mnist returns ------------------------------------------------------------------------------


def test_the_split_keeps_the_order_and_no_image_is_in_two_parts(cache):
    put(cache / "mnist.npz")
    loaded, few, none = load(), load(n_train=7, n_valid=4, n_test=3), load(n_valid=0)
    for kind in "xy":
        train, test = TINY[f"{kind}_train"], TINY[f"{kind}_test"]
        for one, parts in ((loaded, (train[:50], train[50:], test)), (few, (train[:7], train[56:], test[:3]))):
            for name, part in zip(("train", "valid", "test"), parts, strict=True):
                assert np.array_equal(getattr(one, f"{kind}_{name}"), part)
        assert np.array_equal(getattr(none, f"{kind}_train"), train)
    assert (none.x_valid.shape, none.y_valid.shape) == ((0, 28, 28), (0,))


def test_pixels_and_labels_come_in_the_form_asked_for(cache):
    put(cache, IDX)
    raw, scaled, flat, deep, hot = load(), load(scale=True), load(flatten=True), load(channels=True), load(one_hot=True)
    assert [one.x_valid.dtype for one in (raw, scaled)] == [np.uint8, np.float32]
    assert [one.y_test.dtype for one in (raw, hot)] == [np.int64, np.float32]
    assert np.array_equal(scaled.x_train, raw.x_train.astype(np.float32) / np.float32(255))
    assert (flat.x_train.shape, deep.x_valid.shape, hot.y_test.shape) == ((50, 784), (10, 28, 28, 1), (20, 10))
    assert np.array_equal(flat.x_test[3], raw.x_test[3].ravel())
    assert np.array_equal(deep.x_test[..., 0], raw.x_test)
    assert np.array_equal(hot.y_test.argmax(axis=1), raw.y_test)
    assert hot.y_test.sum() == 20
    raw.x_train[0] = hot.y_test[0] = 0  # arrays that can be written to
    assert load(n_valid=0, flatten=True).x_valid.shape == (0, 784)


def test_an_impossible_argument_is_named_in_one_sentence(cache):
    values = {"n_train": (51, 0, -1, 2.5, True), "n_valid": (60, -1, None), "n_test": (21, -1)}
    wrong = [{name: value} for name in values for value in values[name]]
    for options in (*wrong, {"flatten": True, "channels": True}):
        with pytest.raises(LabError, match="|".join(options)) as caught:
            load(**options)
        assert is_one_sentence(str(caught.value))


# ---- Places and files -------------------------------------------------------------------------------------

CONTAINERS = {
    "npz": {"mnist.npz": NPZ},
    "npz not compressed": {"mnist.npz": as_npz(np.savez)},
    "npz of columns": {"mnist.npz": as_npz(**{name: np.asfortranarray(array) for name, array in TINY.items()})},
    "IDX": IDX,
    "IDX with dots": {name.replace("-idx", ".idx"): content for name, content in IDX.items()},
    "IDX compressed": {f"{name}.gz": gzip.compress(content) for name, content in IDX.items()},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_and_may_be_a_file_or_a_folder(tmp_path, monkeypatch, capsys, cache, container):
    folder, file = put(tmp_path / "here", CONTAINERS[container]), next(iter(CONTAINERS[container]))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(data, "PROJECT", tmp_path)
    for path in (folder, folder / file, f" ../here/{file} ", "here"):  # from the folder at hand, or from the project
        monkeypatch.setenv("LABKIT_DATA", str(path))
        assert is_tiny(load())
        assert data.has_mnist()
    assert capsys.readouterr() == ("", "")


def test_places_are_tried_in_order_and_a_download_is_kept(cache, tmp_path, monkeypatch, capfd, offer):
    server = offer(NPZ)
    put(cache / "mnist.npz")
    keras = put(tmp_path / "keras" / "datasets" / "mnist.npz")
    monkeypatch.setenv("LABKIT_DATA", str(put(tmp_path / "mine.npz")))
    assert load().source == "LABKIT_DATA"
    monkeypatch.setenv("LABKIT_DATA", " ")
    assert load().source == "the cache"
    (cache / "mnist.npz").unlink()
    assert load().source == "Keras's cache"
    keras.unlink()
    assert not data.has_mnist()
    assert server.asked == []
    assert load().source == f"download from {server.host}"
    assert load().source == "the cache"
    assert server.asked == ["/0.npz"]
    assert files_in(cache) == ["mnist.npz"]
    assert capfd.readouterr() == ("", "")  # nothing from pooch, either


def refusal():
    """What load_mnist says of the place that LABKIT_DATA leads to."""
    assert not data.has_mnist()
    with pytest.raises(DataError) as caught:
        load()
    assert caught.value.__suppress_context__  # plain Python then prints one short traceback, not two
    assert is_one_sentence(str(caught.value))
    return str(caught.value)


DAMAGED = {
    "truncated": ("mnist.npz", NPZ[: len(NPZ) // 2], "is damaged or incomplete"),
    "empty": ("mnist.npz", b"", "is damaged or incomplete"),
    "lacks an array": ("mnist.npz", as_npz(lambda file, y_test, **most: np.savez(file, **most)), "is damaged"),
    "pickle": ("mnist.npz", as_npz(x_train=np.array([print])), "is damaged or incomplete"),  # so it was not run
    "web page": ("mnist.npz", WEB_PAGE, "is a web page, not data"),
    "other digits": ("mnist.npz", OTHER_NPZ, "is not MNIST (its x_train differs)"),
    "float pixels": ("mnist.npz", as_npz(x_train=TINY["x_train"] / 255), "is not MNIST (its x_train differs)"),
    "one flipped bit": ("mnist.npz", as_npz(y_test=TINY["y_test"] ^ 1), "is not MNIST (its y_test differs)"),
    "truncated IDX": (IMAGES, IDX[IMAGES][:-1], "is damaged or incomplete"),
    "truncated gzip": (f"{IMAGES}.gz", gzip.compress(IDX[IMAGES])[:-2000], "is damaged or incomplete"),
    "other header": (IMAGES, b"\0\0\x08\x01" + IDX[IMAGES][4:], "is damaged or incomplete"),
    "other IDX": (IMAGES, as_idx(OTHER["x_train"]), "is not MNIST (its x_train differs)"),
}


@pytest.mark.parametrize(("file", "content", "why"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_and_never_used(cache, tmp_path, monkeypatch, capsys, file, content, why):
    put(tmp_path / "keras" / "datasets" / "mnist.npz")
    (put(cache, IDX) / IMAGES).unlink()
    put(cache / file, content)
    assert load().source == "Keras's cache"
    out = capsys.readouterr().out
    assert f"Passed over the cache: {cache} holds a {file} that {why}" in out
    assert is_one_sentence(out)
    assert (cache / file).read_bytes() == content
    for chosen in (cache, cache / file):
        monkeypatch.setenv("LABKIT_DATA", str(chosen))
        assert why in refusal()
        assert file in refusal()


def fail(code, *_, **__):
    raise OSError(code, os.strerror(code))


def test_what_is_missing_or_cannot_be_read_is_named(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "nowhere"))
    assert "nowhere, which does not exist" in refusal()
    monkeypatch.setenv("LABKIT_DATA", str(put(tmp_path / "idx", IDX)))
    (tmp_path / "idx" / IMAGES).unlink()
    assert f"holds neither mnist.npz nor {IMAGES}" in refusal()
    put(tmp_path / "idx" / "mnist.npz")
    monkeypatch.setattr(Path, "read_bytes", lambda _: fail(errno.EACCES))
    assert "cannot be read (Permission denied)" in refusal()


def test_status_tells_of_each_place_and_reads_no_unchanged_file_twice(cache, tmp_path, monkeypatch):
    assert [state for *_, state in data.status()] == ["does not exist"] * 2
    keras = put(tmp_path / "keras" / "datasets" / "mnist.npz")
    put(cache / "mnist.npz", WEB_PAGE)
    read, reads, damaged = Path.read_bytes, [], "holds a mnist.npz that is a web page, not data"
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read(path))
    for _ in range(2):
        assert data.status() == [("the cache", str(cache), damaged), ("Keras's cache", str(keras), "MNIST")]
        assert data.has_mnist()
    assert reads == [cache / "mnist.npz", keras]
    keras.write_bytes(bytes(len(NPZ)))  # of the same size
    os.utime(keras, (1, 1))
    assert [state for *_, state in data.status()] == [damaged, "is damaged or incomplete"]


def test_the_cache_folder_is_one_for_commands_and_notebooks_also_without_a_home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABKIT_CACHE", "mine")
    assert data.cache_folder() == data.PROJECT / "mine"
    for name in ("LABKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert "nn-labs" in data.cache_folder().parts
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the system knows of no home
    assert data.cache_folder().is_absolute()


# ---- Downloading ------------------------------------------------------------------------------------------


def break_off(handler, seconds=0.0):
    handler.start(len(NPZ))
    handler.wfile.write(NPZ[: len(NPZ) // 2])
    time.sleep(seconds)


# What a host can do wrong, and what the notice says about it.
FAULTS = {
    "truncated": (NPZ[: len(NPZ) // 2], "sent a file that is damaged or incomplete"),
    "other digits": (OTHER_NPZ, "sent a file that is not MNIST"),
    "web page": (WEB_PAGE, "sent a file that is a web page"),
    "not found": (None, "answered with error 404"),
    "says nothing": (lambda _: time.sleep(2), "did not answer within 1 seconds"),
    "stalls": (lambda handler: break_off(handler, 2), "could not be reached or stopped sending"),
    "breaks off": (break_off, "could not be reached or stopped sending"),
    "no web server": (lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), "could not be reached"),
}


@pytest.mark.parametrize(("answer", "why"), FAULTS.values(), ids=FAULTS)
def test_when_a_host_fails_the_next_one_helps_and_without_one_the_stand_in(
    cache, monkeypatch, capsys, offer, answer, why
):
    monkeypatch.setattr(data, "PATIENCE", 1 if callable(answer) else 10)
    put(cache / "mnist.npz", WEB_PAGE)
    server = offer(answer)
    assert load().name == "digits"
    assert f"MNIST is not on this computer, and the download failed: {server.host} {why}" in printed(capsys)
    assert (cache / "mnist.npz").read_bytes() == WEB_PAGE
    data._session["failed"] -= data.RETRY_SECONDS
    server.answers |= {f"/{name}": content for name, content in CONTAINERS["IDX compressed"].items()}
    second = {name: f"http://{server.host}/{file}.gz" for name, file in data.IDX_NAMES.items()}
    monkeypatch.setattr(data, "ADDRESSES", [*data.ADDRESSES, second])
    assert is_tiny(load())
    assert load().source == "the cache"
    assert printed(capsys).count("Passed over the cache") == 1
    assert files_in(cache) == ["mnist.npz"]


def test_no_network_is_announced_once_and_not_tried_again_for_a_minute(cache, monkeypatch, capsys, offer):
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or fail(-socket.EAI_NONAME))
        patch.setattr(data, "ADDRESSES", [{"npz": f"http://{host}/mnist.npz"} for host in ("one", "two")])
        assert load(n_train=40).name == "digits"
        out, before = capsys.readouterr().out, len(asked)
        assert max(map(len, out.splitlines())) == 80
        assert out.isascii()  # some consoles can print nothing else
        text = " ".join(out.replace("#", "").split())
        for part in ("THIS IS NOT MNIST", "failed: one and two could not be reached", "40 training", data.BY_HAND):
            assert part in text
        assert load().name == "digits"
        assert len(asked) == before > 0
        out = capsys.readouterr().out
        assert "This is not MNIST (one and two could not be reached" in out
        assert is_one_sentence(out)
        with pytest.raises(DataError, match=r"could not be reached.*\): fetch https://.* set LABKIT_DATA") as caught:
            data.fetch()
        assert is_one_sentence(str(caught.value))
    offer(NPZ)
    assert load().name == "digits"
    data._session["failed"] -= 60
    assert is_tiny(load())


def test_a_slow_search_for_a_host_or_many_addresses_are_not_waited_for(cache, monkeypatch, capsys):
    monkeypatch.setattr(data, "PATIENCE", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20) or [])
    monkeypatch.setattr(data, "ADDRESSES", [{"npz": "http://mnist.invalid/mnist.npz"}])
    begin = time.monotonic()
    assert load().name == "digits"
    assert time.monotonic() - begin < 15
    assert "mnist.invalid did not answer within 0.5 seconds" in printed(capsys)


@pytest.mark.parametrize("web", ["http", "https"])
@pytest.mark.parametrize("state", ["refuses", "is not there", "is unknown"])
def test_a_proxy_that_fails_is_named_with_its_variable_but_not_its_password(monkeypatch, capsys, offer, web, state):
    server = offer()
    proxy = "no-such-proxy.invalid:3128" if state == "is unknown" else server.host
    if state == "is not there":
        server.server_close()
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv(f"{web.upper()}_PROXY", f"http://ada:lovelace@{proxy}")
    monkeypatch.setattr(data, "ADDRESSES", [{"npz": f"{web}://mnist.example/mnist.npz"}])
    assert load().name == "digits"
    out = printed(capsys)
    assert f"failed: mnist.example (through the proxy {proxy} of {web.upper()}_PROXY) " in out
    assert "lovelace" not in out
    assert ("answered with error 407" in out) == ((web, state) == ("http", "refuses"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate with its key that nobody vouches for, such as that of a proxy that inspects connections."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here to make a certificate")
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    request = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=here -addext subjectAltName=IP:127.0.0.1 -keyout {path}"
    )
    subprocess.run([*request.split(), "-out", path], check=True, capture_output=True)
    return str(path)


TRUST = [("", False), ("REQUESTS_CA_BUNDLE=/nowhere", False), ("SSL_CERT_FILE=/nowhere", False)]
TRUST += [
    ("SSL_CERT_FILE=own", True),
    ("REQUESTS_CA_BUNDLE=own", True),
    ("REQUESTS_CA_BUNDLE=own SSL_CERT_FILE=x", True),
]


@pytest.mark.parametrize(("variables", "trusted"), TRUST)
def test_for_a_doubtful_certificate_variables_are_named_that_help(
    monkeypatch, capsys, offer, certificate, variables, trusted
):
    offer(NPZ, certificate=certificate)
    for variable in variables.split():
        name, value = variable.split("=")
        monkeypatch.setenv(name, {"own": certificate, "x": __file__}.get(value, value))
    assert is_tiny(load()) == trusted
    assert ("is not trusted: let REQUESTS_CA_BUNDLE or SSL_CERT_FILE name the file" in printed(capsys)) != trusted


# ---- Keeping ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["disk full", "read-only", "file in the way"])
def obstacle(request, cache, monkeypatch):
    """The cache folder holds a damaged file, and nothing can be written there."""
    put(cache / "mnist.npz", WEB_PAGE)
    if request.param == "disk full":  # no file can grow beyond 10 kB
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    elif request.param == "read-only":
        monkeypatch.setattr(Path, "mkdir", lambda *_, **__: fail(errno.EROFS))
    else:
        monkeypatch.setenv("LABKIT_CACHE", str(cache / "mnist.npz" / "below"))


def test_a_download_that_cannot_be_kept_is_used_and_a_sentence_says_so(cache, obstacle, capsys, offer):
    offer(NPZ)
    assert is_tiny(load())
    out = capsys.readouterr().out.splitlines()[-1]
    assert out.startswith(f"MNIST was downloaded and is used, but it could not be kept in {cache}")
    assert is_one_sentence(out)
    with pytest.raises(DataError, match=r"could not be kept in .*: set LABKIT_CACHE to a folder") as caught:
        data.fetch()
    assert is_one_sentence(str(caught.value))
    assert files_in(cache) == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == WEB_PAGE


@pytest.mark.parametrize("container", ["npz", "IDX compressed", "Keras's cache", "download"])
def test_fetch_puts_mnist_into_the_cache_from_where_it_is(cache, tmp_path, monkeypatch, offer, request, container):
    server = offer(NPZ)
    if container in CONTAINERS:
        monkeypatch.setenv("LABKIT_DATA", str(put(tmp_path / "mine", CONTAINERS[container])))
    elif container != "download":
        put(tmp_path / "keras" / "datasets" / "mnist.npz")
    before = os.umask(0o022)
    request.addfinalizer(lambda: os.umask(before))
    assert data.fetch() == data.fetch() == cache
    assert server.asked == ["/0.npz"] * (container == "download")
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    assert load().source == "the cache"
    assert (cache / "mnist.npz").stat().st_mode & 0o444 == 0o444  # a cache may serve a whole class


LOADER = """
import json, os, sys, time
from labkit import data
shapes, data.SHA256, data.ADDRESSES = json.loads(sys.argv[1])
data.SHAPES = {name: tuple(shape) for name, shape in shapes.items()}
"""


def process(code, before=""):
    """Run the code in a Python of its own, for which the small arrays count as MNIST."""
    command = [sys.executable, "-c", before + LOADER + code, json.dumps([SHAPES, DIGESTS, data.ADDRESSES])]
    environment = os.environ | {"PYTHONPATH": str(data.PROJECT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_importing_asks_for_no_network_and_without_ssl_local_data_still_load(cache):
    put(cache / "mnist.npz")
    code = "print({'requests', 'pooch', 'tqdm', 'ssl'} & set(sys.modules), data.load_mnist(10, 10).name)"
    assert process(code).communicate(timeout=30)[0] == "set() MNIST\n"
    without = "import sys; sys.modules['ssl'] = sys.modules['_ssl'] = None"
    assert process(code, without).communicate(timeout=30)[0] == "{'ssl'} MNIST\n"


@pytest.mark.slow
def test_a_kernel_that_is_killed_leaves_nothing_that_is_taken_for_mnist(cache, offer, trials):
    asked = threading.Event()

    def drip(handler):
        asked.set()
        handler.start(len(NPZ))
        for begin in range(0, len(NPZ), 4000):
            handler.wfile.write(NPZ[begin : begin + 4000])
            time.sleep(0.02)

    offer(drip)
    slowly = "replace = os.replace; os.replace = lambda *paths: (time.sleep(0.3), replace(*paths))\n"
    for trial in range(trials):
        asked.clear()
        kernel = process(f"{slowly}data.load_mnist(n_valid=10)")
        assert asked.wait(30)
        time.sleep(trial / trials)
        kernel.kill()
        kernel.communicate()
        assert data.status()[0][2] in {"MNIST", "does not exist", f"holds neither mnist.npz nor {IMAGES}"}
        assert is_tiny(load())
        shutil.rmtree(cache)


# ---- What people see of it --------------------------------------------------------------------------------


def test_a_notebook_shows_progress_where_somebody_watches_and_an_error_as_a_sentence(cache, monkeypatch, offer):
    import nbformat
    from nbclient import NotebookClient

    from labtools import run

    offer(NPZ)
    monkeypatch.setenv("LABKIT_LIVE", "0")
    settings = ["", json.dumps([SHAPES, DIGESTS, data.ADDRESSES])]
    cells = [
        f"import sys; sys.path.insert(0, {str(data.PROJECT)!r}); sys.argv = {settings!r}\n{LOADER}",
        "assert data.load_mnist(n_valid=10).source.startswith('download')",
        f"os.remove({str(cache / 'mnist.npz')!r}); os.environ['LABKIT_LIVE'] = '1'; _ = data.load_mnist(n_valid=10)",
        "os.environ['LABKIT_DATA'] = 'nowhere'; data.load_mnist(n_valid=10)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, allow_errors=True, km=run.kernel_manager()).execute()
    hidden, shown, (error,) = (cell.outputs for cell in notebook.cells[1:])
    assert hidden == []
    assert "Downloading MNIST from" in "".join(output.text for output in shown)
    assert " ".join(error.traceback) == f"DataError: {error.evalue}"  # in lines, without a stack trace


# ---- The stand-in -----------------------------------------------------------------------------------------


@pytest.fixture
def digits(monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_DATA", "digits")
    loaded, out = load_mnist(scale=False), capsys.readouterr().out
    assert "This is not MNIST (LABKIT_DATA=digits)" in out
    assert is_one_sentence(out)
    return loaded


def test_digits_are_those_of_scikit_learn_and_look_like_mnist(digits):
    from sklearn.datasets import load_digits

    assert (digits.name, digits.x_train.shape, digits.x_train.dtype) == ("digits", (27_425, 28, 28), np.uint8)
    assert 0.15 < (digits.x_train > 0).mean() < 0.25  # MNIST: 0.19
    assert 30 < digits.x_train.mean() < 45  # MNIST: 33
    assert 70 < digits.x_train.std() < 90  # MNIST: 79
    pixels = np.concatenate([digits.x_train[:1097], digits.x_valid, digits.x_test])
    labels = np.concatenate([digits.y_train[:1097], digits.y_valid, digits.y_test])
    assert pixels.sum() == pixels[:, 4:24, 4:24].sum()  # the border is empty
    # Sampled at the centres of the 8x8 cells, each resembles one bundled image most, which has the same label.
    centres = (4 + 2.5 * (np.arange(8) + 0.5)).astype(int)
    small, bundle = pixels[:, centres][:, :, centres].reshape(1797, 64), load_digits()
    nearest = np.corrcoef(small, bundle.data)[:1797, 1797:].argmax(axis=1)
    assert np.mean(bundle.target[nearest] == labels) > 0.995
    assert len(set(nearest)) > 0.95 * 1797  # every image is used once


def test_no_copy_of_a_held_out_digit_is_trained_on(digits):
    held_out = {image.tobytes() for image in np.concatenate([digits.x_valid, digits.x_test])}
    assert len(held_out) == 350 + 350
    assert held_out.isdisjoint(image.tobytes() for image in digits.x_train)
    images, labels = digits.x_train.reshape(25, 1097, 28, 28), digits.y_train.reshape(25, 1097)
    assert (labels == labels[0]).all()
    wide, found = np.pad(images[0], ((0, 0), (2, 2), (2, 2))), []
    for down, right in np.ndindex(5, 5):
        moved = wide[:, down : down + 28, right : right + 28]
        found += [i for i, copies in enumerate(images) if np.array_equal(copies, moved)]
    assert sorted(found) == list(range(25))  # each shift once
    assert found[12] == 0  # and the originals first


def test_digits_obey_the_other_arguments(digits, capsys):
    few = load_mnist(n_train=100, n_valid=20, n_test=30, scale=False)
    assert np.array_equal(few.x_train, digits.x_train[:100])
    assert (len(few.x_valid), len(few.y_test)) == (20, 30)
    most = load_mnist(n_train=60_000, n_valid=0, flatten=True, one_hot=True)
    assert (most.x_train.shape, len(most.x_valid), most.x_test.max()) == ((27_425, 784), 0, 1)
    assert np.array_equal(most.y_test.argmax(axis=1), digits.y_test)
    assert "27,425 training, 0 validation and 350 test" in capsys.readouterr().out


# ---- MNIST itself -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path(REAL).exists(), reason="MNIST is not on this computer")
def test_mnist_is_the_published_one_and_takes_little_memory(monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", REAL)
    tracemalloc.start()
    loaded = load_mnist()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 300e6  # float32 takes 220 MB; a detour through float64 would take 376 MB more
    assert [len(part) for part in (loaded.x_train, loaded.x_valid, loaded.x_test)] == [50_000, 10_000, 10_000]
    assert (loaded.x_train.dtype, loaded.x_train.min(), loaded.x_train.max()) == (np.float32, 0, 1)
    raw = load_mnist(n_valid=0, scale=False)
    # Of the IDX files with these arrays: published long before anybody computed the SHA-256 digests in labkit.
    for array, digest in (
        (raw.x_train, "6bbc9ace898e44ae57da46a324031adb"),
        (raw.y_train, "a25bea736e30d166cdddb491f175f624"),
        (raw.x_test, "2646ac647ad5339dbf082846283269ea"),
        (raw.y_test, "27ae3e4e09519cfbb04c329615203637"),
    ):
        assert hashlib.md5(as_idx(array.astype(np.uint8))).hexdigest() == digest
