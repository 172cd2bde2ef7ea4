"""labkit.data: the split, every place that MNIST can come from, what can go wrong on the way, and the stand-in."""
# ruff: noqa: PLR0917 (a test takes each fixture as an argument)

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from labkit import data
from labkit.data import DataError, load_mnist

# Where `labs data` has found it, if the tests run on the stand-in by choice or for want of it.
CHOSEN = os.environ.get("LABKIT_DATA", "").strip()
REAL = CHOSEN if CHOSEN not in ("", "digits") else str(data.cache_folder() / "mnist.npz")
needs_mnist = pytest.mark.skipif(not Path(REAL).exists(), reason="MNIST is not on this computer")
NAMES = [f"{kind}_{part}" for part in ("train", "valid", "test") for kind in "xy"]

# ---- A small MNIST, and addresses on this computer ---------------------------------------------------------


def make_arrays(seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (80, 28, 28), dtype=np.uint8)
    labels = np.arange(80, dtype=np.uint8) % 10
    return {"x_train": images[:60], "y_train": labels[:60], "x_test": images[60:], "y_test": labels[:59:-1]}


def as_npz(arrays, save=np.savez_compressed):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def as_idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


TINY = make_arrays()
SHAPES = {name: array.shape for name, array in TINY.items()}
DIGESTS = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in TINY.items()}
NPZ, OTHER_NPZ = as_npz(TINY), as_npz(make_arrays(seed=1))
IDX = {data.IDX_NAMES[name]: as_idx(array) for name, array in TINY.items()}
GZ = {f"{name}.gz": gzip.compress(content) for name, content in IDX.items()}
WEB_PAGE = b"\n<!DOCTYPE html>\n<title>Please log in</title>" + b" " * 5000


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """No test sees the data, caches, network or memories of another, or of this computer."""
    for name in ("LABKIT_DATA", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(data, "ADDRESSES", ())
    monkeypatch.setattr(data, "PATIENCE", 1)
    monkeypatch.setattr(data, "_session", {"failed": -float("inf"), "why": "", "announced": False})


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The cache folder; the small arrays count as MNIST."""
    monkeypatch.setattr(data, "SHAPES", SHAPES)
    monkeypatch.setattr(data, "SHA256", DIGESTS)
    return tmp_path / "cache"


def put(path, content=NPZ):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_all(folder, files):
    for name, content in files.items():
        put(folder / name, content)
    return folder


@pytest.fixture
def at_hand(cache):
    return put(cache / "mnist.npz")


class Server:
    """A web server on loopback, with an address for each answer: bytes, a status, or a function of the handler."""

    def __init__(self, *answers, certificate=None):
        self.answers, self.asked, self.over = {}, [], threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                self.do_HEAD()

            def do_HEAD(self):
                answer = server.answers.get(self.path, 407)  # a proxy is asked for whole addresses
                with contextlib.suppress(OSError):  # the client hangs up, as some tests want it to
                    if isinstance(answer, int):
                        self.send_error(answer)
                    elif callable(answer):
                        answer(self)
                    else:
                        start(self, len(answer))
                        self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.answers = {f"/{number}/mnist.npz": answer for number, answer in enumerate(answers)}
        web = "https" if certificate else "http"
        self.addresses = tuple({"npz": f"{web}://{self.host}{path}"} for path in self.answers)
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
def offer(cache, monkeypatch):
    """Let labkit's addresses be those of a server with these answers."""
    with contextlib.ExitStack() as servers:

        def make(*answers, **options):
            server = Server(*answers, **options)
            servers.callback(server.stop)
            monkeypatch.setattr(data, "ADDRESSES", server.addresses)
            return server

        yield make


def load(**options):
    return load_mnist(**{"n_valid": 10, "scale": False} | options)


def is_tiny(loaded):
    return loaded.name == "MNIST" and np.array_equal(loaded.x_test, TINY["x_test"])


def is_one_sentence(text):
    return "\n" not in text.strip() and text.strip().endswith(".") and ". " not in text


def printed(capsys):
    """What was printed, without the frame of the notice."""
    return " ".join(capsys.readouterr().out.replace("#", "").split())


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


# ---- What load_mnist returns ------------------------------------------------------------------------------


def test_the_split_keeps_the_order_and_no_image_is_in_two_parts(at_hand):
    loaded = load()
    for kind in "xy":
        assert np.array_equal(getattr(loaded, f"{kind}_train"), TINY[f"{kind}_train"][:50])
        assert np.array_equal(getattr(loaded, f"{kind}_valid"), TINY[f"{kind}_train"][50:])
        assert np.array_equal(getattr(loaded, f"{kind}_test"), TINY[f"{kind}_test"])
    few = load(n_train=7, n_valid=4, n_test=3)
    assert np.array_equal(few.x_train, TINY["x_train"][:7])
    assert np.array_equal(few.y_valid, TINY["y_train"][56:])
    assert np.array_equal(few.x_test, TINY["x_test"][:3])
    none = load(n_valid=0)
    assert (len(none.y_train), none.x_valid.shape, none.y_valid.shape) == (60, (0, 28, 28), (0,))


def test_pixels_and_labels_come_in_the_form_asked_for(at_hand):
    raw, scaled, flat, deep, hot = load(), load(scale=True), load(flatten=True), load(channels=True), load(one_hot=True)
    assert (raw.x_valid.dtype, scaled.x_valid.dtype, raw.y_test.dtype, hot.y_test.dtype) == (
        np.uint8, np.float32, np.int64, np.float32,
    )  # fmt: skip
    assert np.array_equal(scaled.x_train, raw.x_train.astype(np.float32) / np.float32(255))
    assert (flat.x_train.shape, deep.x_valid.shape, hot.y_test.shape) == ((50, 784), (10, 28, 28, 1), (20, 10))
    assert np.array_equal(flat.x_test[3], raw.x_test[3].ravel())
    assert np.array_equal(deep.x_test[..., 0], raw.x_test)
    assert np.array_equal(hot.y_test.argmax(axis=1), raw.y_test)
    assert hot.y_test.sum() == 20
    for one in (raw, scaled, hot):  # arrays that can be written to
        one.x_train[0] = one.y_test[0] = 0
    assert load(n_valid=0, flatten=True).x_valid.shape == (0, 784)


@pytest.mark.parametrize("chosen", ["", "digits"])
@pytest.mark.parametrize(
    "options",
    [
        *({"n_train": value} for value in (51, 0, -1, 2.5, True, "all")),
        *({"n_valid": value} for value in (60, -1, None)),
        *({"n_test": value} for value in (21, -1)),
        {"flatten": True, "channels": True},
    ],
    ids=str,
)
def test_an_impossible_argument_is_named_in_one_sentence(at_hand, monkeypatch, options, chosen):
    monkeypatch.setenv("LABKIT_DATA", chosen)
    with pytest.raises(ValueError, match="|".join(options)) as caught:
        load(**options)
    assert is_one_sentence(str(caught.value))


def test_a_dataset_tells_what_is_in_it(at_hand):
    assert repr(load(n_train=7, one_hot=True)) == textwrap.dedent("""\
        MNIST, pixels from 0 to 255
          x_train  (7, 28, 28)         uint8
          y_train  (7, 10)             float32
          x_valid  (10, 28, 28)        uint8
          y_valid  (10, 10)            float32
          x_test   (20, 28, 28)        uint8
          y_test   (20, 10)            float32""")


# ---- Places and files -------------------------------------------------------------------------------------

CONTAINERS = {
    "npz": {"mnist.npz": NPZ},
    "npz not compressed": {"mnist.npz": as_npz(TINY, np.savez)},
    "npz of columns": {"mnist.npz": as_npz({name: np.asfortranarray(array) for name, array in TINY.items()})},
    "IDX": IDX,
    "IDX with dots": {name.replace("-idx", ".idx"): content for name, content in IDX.items()},
    "IDX compressed": GZ,
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_every_container_gives_the_same(at_hand, tmp_path, monkeypatch, capsys, container):
    reference = load()
    folder = put_all(tmp_path / "here", container)
    for path in (folder, folder / next(iter(container))):
        monkeypatch.setenv("LABKIT_DATA", f" {path} ")
        loaded = load()
        assert (reference.source, loaded.source) == ("the cache", "LABKIT_DATA")
        assert repr(loaded) == repr(reference)
        assert all(np.array_equal(getattr(reference, name), getattr(loaded, name)) for name in NAMES)
        assert data.has_mnist()
    assert capsys.readouterr() == ("", "")


def test_a_relative_path_may_start_here_or_in_the_project(cache, tmp_path, monkeypatch):
    put(tmp_path / "work" / "near" / "mnist.npz")
    put(tmp_path / "project" / "far" / "any name.npz")
    monkeypatch.setattr(data, "PROJECT", tmp_path / "project")
    (tmp_path / "work").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "work")
    for value in ("near", "far/any name.npz"):
        monkeypatch.setenv("LABKIT_DATA", value)
        assert is_tiny(load())


def test_places_are_tried_in_order_and_a_download_is_kept(cache, tmp_path, monkeypatch, capfd, offer):
    server = offer(NPZ)
    mine, keras = put(tmp_path / "mine.npz"), put(tmp_path / "keras" / "datasets" / "mnist.npz")
    put(cache / "mnist.npz")
    monkeypatch.setenv("LABKIT_DATA", str(mine))
    assert load().source == "LABKIT_DATA"
    monkeypatch.setenv("LABKIT_DATA", " ")
    assert load().source == "the cache"
    (cache / "mnist.npz").unlink()
    assert load().source == "Keras's cache"
    assert server.asked == []
    keras.unlink()
    assert not data.has_mnist()
    assert load().source == f"download from {server.host}"
    assert load().source == "the cache"
    assert server.asked == ["/0/mnist.npz"]
    assert files_in(cache) == ["mnist.npz"]
    assert capfd.readouterr() == ("", "")  # nothing from pooch, either


DAMAGED = {
    "truncated": (NPZ[: len(NPZ) // 2], "is damaged or incomplete"),
    "empty": (b"", "is damaged or incomplete"),
    "noise": (bytes(range(256)) * 20, "is damaged or incomplete"),
    "lacks an array": (as_npz({"x_train": TINY["x_train"]}), "is damaged or incomplete"),
    "web page": (WEB_PAGE, "is a web page"),
    "other digits": (OTHER_NPZ, "its x_train differs"),
    "float pixels": (as_npz(TINY | {"x_train": TINY["x_train"] / 255}), "its x_train differs"),
    "flat images": (as_npz(TINY | {"x_test": TINY["x_test"].reshape(20, 784)}), "its x_test differs"),
    "one flipped bit": (as_npz(TINY | {"y_test": TINY["y_test"] ^ 1}), "its y_test differs"),
}


def refusal():
    """What load_mnist says of the place that LABKIT_DATA leads to."""
    assert not data.has_mnist()
    with pytest.raises(DataError) as caught:
        load()
    assert is_one_sentence(str(caught.value))
    assert caught.value.__suppress_context__  # plain Python then prints one short traceback, not two
    return str(caught.value)


@pytest.mark.parametrize(("content", "why"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_and_never_used(cache, tmp_path, monkeypatch, capsys, content, why):
    bad = put(cache / "mnist.npz", content)
    put(tmp_path / "keras" / "datasets" / "mnist.npz")
    assert load().source == "Keras's cache"
    out = capsys.readouterr().out
    assert is_one_sentence(out)
    assert f"Passed over the cache: {cache} holds a mnist.npz that " in out
    assert why in out
    assert bad.read_bytes() == content
    for chosen in (cache, bad):
        monkeypatch.setenv("LABKIT_DATA", str(chosen))
        text = refusal()
        assert "mnist.npz" in text
        assert why in text


IMAGES = IDX["train-images-idx3-ubyte"]
DAMAGED_IDX = {
    "truncated": IMAGES[:-1],
    "longer": IMAGES + b"0",
    "truncated gzip": gzip.compress(IMAGES)[:-2000],
    "header": b"\0\0\x08\x01" + IMAGES[4:],
    "other pixels": as_idx(255 - TINY["x_train"]),
    "web page": WEB_PAGE,
    "empty": b"",
}


@pytest.mark.parametrize("content", DAMAGED_IDX.values(), ids=DAMAGED_IDX)
def test_a_damaged_idx_file_is_named_and_never_used(cache, tmp_path, monkeypatch, content):
    put(put_all(tmp_path / "idx", IDX) / "train-images-idx3-ubyte", content)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "idx"))
    assert "holds a train-images-idx3-ubyte that is " in refusal()


def test_what_is_missing_or_cannot_be_read_is_named(at_hand, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "nowhere"))
    assert "nowhere, which does not exist" in refusal()
    (put_all(tmp_path / "idx", IDX) / "t10k-labels-idx1-ubyte").unlink()
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "idx"))
    assert "holds neither mnist.npz nor t10k-labels-idx1-ubyte" in refusal()
    monkeypatch.setenv("LABKIT_DATA", str(at_hand))
    monkeypatch.setattr(Path, "read_bytes", fail(errno.EACCES))
    assert "cannot be read (Permission denied)" in refusal()


class Exploit:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_not_run(cache, tmp_path, monkeypatch):
    trap = np.array([Exploit(tmp_path / "trapped")], object)
    bad = put(tmp_path / "mnist.npz", as_npz(TINY | {"x_train": trap}))
    monkeypatch.setenv("LABKIT_DATA", str(bad))
    assert "damaged" in refusal()
    assert not (tmp_path / "trapped").exists()
    assert np.load(bad, allow_pickle=True)["x_train"] is not None
    assert (tmp_path / "trapped").exists()  # so the trap would have worked


def test_status_tells_of_each_place_and_reads_no_unchanged_file_twice(cache, tmp_path, monkeypatch):
    keras = tmp_path / "keras" / "datasets" / "mnist.npz"
    nowhere = [("the cache", str(cache), "does not exist"), ("Keras's cache", str(keras), "does not exist")]
    assert data.status() == nowhere
    assert not data.has_mnist()
    put(cache / "mnist.npz", WEB_PAGE)
    put(keras)
    read, reads = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read(path))
    for _ in range(2):
        assert [state for _, _, state in data.status()] == ["holds a mnist.npz that is a web page, not data", "MNIST"]
        assert data.has_mnist()
    assert reads == [cache / "mnist.npz", keras]
    put(cache / "mnist.npz")
    assert [state for _, _, state in data.status()] == ["MNIST", "MNIST"]
    keras.write_bytes(NPZ[:-1] + b"!")  # of the same size
    os.utime(keras, (1, 1))
    monkeypatch.setenv("LABKIT_DATA", str(keras))
    assert data.status() == [("LABKIT_DATA", str(keras), "is damaged or incomplete")]
    monkeypatch.setenv("LABKIT_DATA", "digits")
    assert "chosen on purpose" in data.status()[0][2]
    assert not data.has_mnist()


def test_the_cache_folder_is_the_same_for_a_command_and_a_notebook(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_CACHE", "mine")
    assert data.cache_folder() == data.PROJECT / "mine"
    monkeypatch.delenv("LABKIT_CACHE")
    assert data.cache_folder().is_absolute()
    assert data.cache_folder().name in {"nn-labs", "Cache"}
    # Where the system knows of no home, no folder of the name "~" comes to be in the folder at hand.
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert data.cache_folder().is_absolute()


# ---- Downloading ------------------------------------------------------------------------------------------


def test_a_second_address_with_idx_files_helps(cache, capsys, offer, monkeypatch):
    server = offer(500)
    server.answers |= {f"/{name}": content for name, content in GZ.items()}
    urls = {name: f"http://{server.host}/{file}.gz" for name, file in data.IDX_NAMES.items()}
    monkeypatch.setattr(data, "ADDRESSES", (*server.addresses, urls))
    assert is_tiny(load())
    assert files_in(cache) == ["mnist.npz"]
    assert load().source == "the cache"
    assert capsys.readouterr() == ("", "")


def break_off(handler):
    start(handler, len(NPZ))
    handler.wfile.write(NPZ[: len(NPZ) // 2])


def wait(handler):
    time.sleep(2.5)


def stall(handler):
    break_off(handler)
    wait(handler)


def redirect(handler):
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


# What a host can do wrong, and what the notice says about it.
FAULTS = {
    "truncated": (NPZ[: len(NPZ) // 2], "sent a file that is damaged or incomplete"),
    "other digits": (OTHER_NPZ, "sent a file that is not MNIST"),
    "web page": (WEB_PAGE, "sent a file that is a web page"),
    "not found": (404, "answered with error 404"),
    "says nothing": (wait, "did not answer within 1 seconds"),
    "stalls": (stall, "could not be reached or stopped sending"),
    "breaks off": (break_off, "could not be reached or stopped sending"),
    "no web server": (lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), "could not be reached"),
    "redirects for ever": (redirect, "could not be reached"),
}


@pytest.mark.parametrize(("answer", "why"), FAULTS.values(), ids=FAULTS)
def test_when_a_host_fails_the_next_one_helps_and_without_one_the_stand_in(cache, capsys, offer, answer, why):
    put(cache / "mnist.npz", WEB_PAGE)
    server, begin = offer(answer), time.monotonic()
    assert load().name == "digits"
    assert time.monotonic() - begin < 5
    assert f"THIS IS NOT MNIST MNIST is not on this computer, and the download failed: {server.host} {why}" in printed(
        capsys
    )
    assert (cache / "mnist.npz").read_bytes() == WEB_PAGE
    data._session["failed"] = -float("inf")
    offer(answer, NPZ)
    assert is_tiny(load())
    assert is_tiny(load())
    assert printed(capsys).count("Passed over the cache") == 1
    assert files_in(cache) == ["mnist.npz"]


def test_no_network_is_announced_once_and_not_tried_again_for_a_while(cache, monkeypatch, capsys, offer):
    asked = []

    def resolve(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    address = "http://mnist.invalid/mnist.npz"
    monkeypatch.setattr(data, "ADDRESSES", ({"npz": address}, {"npz": "http://other.invalid/mnist.npz"}))
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        assert load(n_train=40).name == "digits"
        tried = len(asked)
        out = capsys.readouterr().out
        assert {len(line) for line in out.splitlines() if set(line) == {"#"} and len(line) > 1} == {80}
        assert max(map(len, out.splitlines())) == 80
        assert out.isascii()  # some consoles can print nothing else
        text = " ".join(out.replace("#", "").split())
        for part in ("mnist.invalid and other.invalid could not be reached", "40 training", "20 test", "`labs data`"):
            assert part in text
        assert text.count(data.BY_HAND) == 1
        assert load().name == "digits"
        assert len(asked) == tried > 0
        again = capsys.readouterr().out
        assert is_one_sentence(again)
        assert "This is not MNIST (mnist.invalid and other.invalid could not be reached" in again
    offer(NPZ)
    assert load().name == "digits"
    data._session["failed"] -= data.RETRY_SECONDS
    assert is_tiny(load())


def test_a_host_with_many_addresses_or_a_slow_search_for_it_is_not_waited_for(cache, monkeypatch, capsys):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(4) or [])
    monkeypatch.setattr(data, "ADDRESSES", ({"npz": "http://mnist.invalid/mnist.npz"},))
    begin = time.monotonic()
    assert load().name == "digits"
    assert time.monotonic() - begin < 3
    assert "mnist.invalid did not answer within 1 seconds" in printed(capsys)


@pytest.mark.parametrize("web", ["http", "https"])
@pytest.mark.parametrize("state", ["refuses", "is not there", "is unknown"])
def test_a_proxy_that_fails_is_named_with_its_variable_but_not_its_password(monkeypatch, capsys, offer, web, state):
    server = offer()
    proxy = "no-such-proxy.invalid:3128" if state == "is unknown" else server.host
    if state == "is not there":
        server.stop()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(f"{web.upper()}_PROXY", f"http://ada:lovelace@{proxy}")
    monkeypatch.setattr(data, "ADDRESSES", ({"npz": f"{web}://mnist.example/mnist.npz"},))
    assert load().name == "digits"
    out = printed(capsys)
    assert f"mnist.example (through the proxy {proxy} of {web.upper()}_PROXY) " in out
    assert "lovelace" not in out
    assert ("error 407" in out) == ((web, state) == ("http", "refuses"))
    if (web, state) == ("http", "refuses"):  # and one that works is used
        server.answers["http://mnist.example/mnist.npz"] = NPZ
        data._session["failed"] = -float("inf")
        assert is_tiny(load())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody vouches for, such as that of a proxy that inspects connections, with its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here to make a certificate")
    path = str(tmp_path_factory.mktemp("certificate") / "both.pem")
    request = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -keyout {path} -out {path}.crt"
    command = [*request.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    with open(path, "a", encoding="ascii") as file:
        file.write(Path(f"{path}.crt").read_text(encoding="ascii"))
    return path


@pytest.mark.parametrize(
    ("variables", "trusted"),
    [
        ({}, False),
        ({"REQUESTS_CA_BUNDLE": "/nowhere"}, False),
        ({"SSL_CERT_FILE": "/nowhere"}, False),
        ({"SSL_CERT_FILE": ""}, True),
        ({"REQUESTS_CA_BUNDLE": ""}, True),
        ({"REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": __file__}, True),
    ],
    ids=str,
)
def test_the_variables_named_for_a_doubtful_certificate_help(
    monkeypatch, capsys, offer, certificate, variables, trusted
):
    offer(NPZ, certificate=certificate)
    for name, value in variables.items():
        monkeypatch.setenv(name, value or f"{certificate}.crt")
    assert is_tiny(load()) == trusted
    assert ("not trusted: let REQUESTS_CA_BUNDLE or SSL_CERT_FILE name the file" in printed(capsys)) != trusted


def test_importing_asks_for_no_network_and_without_ssl_local_data_still_load(at_hand):
    loaded = "{'ssl', 'requests', 'pooch', 'tqdm'} & set(sys.modules), data.has_mnist(), data.load_mnist(10, 10).name"
    for before in ("", "import sys; sys.modules['ssl'] = sys.modules['_ssl'] = None"):
        out = process((), f"print({loaded})", before).communicate(timeout=30)[0]
        assert out == ("{'ssl'} True MNIST\n" if before else "set() True MNIST\n")


# ---- Keeping ----------------------------------------------------------------------------------------------


def fail(code):
    def failing(*_, **__):
        raise OSError(code, os.strerror(code))

    return failing


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
        monkeypatch.setattr(Path, "mkdir", fail(errno.EROFS))
    else:
        monkeypatch.setenv("LABKIT_CACHE", str(cache / "mnist.npz" / "below"))


def test_a_download_that_cannot_be_kept_is_used_and_a_sentence_says_so(cache, obstacle, capsys, offer):
    offer(NPZ)
    assert is_tiny(load())
    out = capsys.readouterr().out.splitlines()[-1]
    assert out.startswith(f"MNIST was downloaded and is used, but it could not be kept in {cache}")
    assert is_one_sentence(out)
    with pytest.raises(DataError, match="could not be kept in .*: set LABKIT_CACHE to a folder") as caught:
        data.fetch()
    assert is_one_sentence(str(caught.value))
    assert files_in(cache) == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == WEB_PAGE


def test_another_kernel_that_was_first_is_no_fault(cache, monkeypatch, capsys, offer):
    offer(NPZ)
    monkeypatch.setattr(os, "replace", lambda *_: put(cache / "mnist.npz") and fail(errno.EACCES)())
    assert is_tiny(load())
    assert capsys.readouterr().out == ""
    assert files_in(cache) == ["mnist.npz"]


@pytest.mark.parametrize("container", [*CONTAINERS, "Keras's cache", "download"])
def test_fetch_puts_mnist_into_the_cache_from_where_it_is(cache, tmp_path, monkeypatch, offer, container):
    server = offer(NPZ)
    if container in CONTAINERS:
        monkeypatch.setenv("LABKIT_DATA", str(put_all(tmp_path / "mine", CONTAINERS[container])))
    elif container != "download":
        put(tmp_path / "keras" / "datasets" / "mnist.npz")
    before = os.umask(0o022)
    try:
        assert data.fetch() == data.fetch() == cache
    finally:
        os.umask(before)
    assert server.asked == ["/0/mnist.npz"] * (container == "download")
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    assert load().source == "the cache"
    if os.name == "posix":  # a cache may serve a whole class
        assert (cache / "mnist.npz").stat().st_mode & 0o444 == 0o444


def test_fetch_without_a_network_says_what_to_do(cache, offer):
    offer(404)
    with pytest.raises(DataError, match=r"error 404.*: fetch https://.* set LABKIT_DATA") as caught:
        data.fetch()
    assert is_one_sentence(str(caught.value))


LOADER = """
import json, sys
from labkit import data
shapes, data.SHA256, data.ADDRESSES = json.loads(sys.argv[1])
data.SHAPES = {name: tuple(shape) for name, shape in shapes.items()}
"""


def process(addresses, code, before=""):
    """Run the code in a Python of its own, for which the small arrays count as MNIST."""
    command = [sys.executable, "-c", before + LOADER + code, json.dumps([SHAPES, DIGESTS, addresses])]
    environment = os.environ | {"PYTHONPATH": str(data.PROJECT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_two_kernels_that_download_at_once_do_not_spoil_it(cache, offer):
    both = threading.Barrier(2)

    def answer(handler):
        if handler.command == "GET":
            both.wait(15)  # nobody is served before both have asked, so neither finds the other's file
        start(handler, len(NPZ))
        handler.wfile.write(NPZ)

    server = offer(answer)
    kernels = [process(server.addresses, "print(data.load_mnist(n_valid=10).source)") for _ in range(2)]
    assert [kernel.communicate(timeout=30)[0] for kernel in kernels] == [f"download from {server.host}\n"] * 2
    assert files_in(cache) == ["mnist.npz"]
    assert load().source == "the cache"


WRITE_SLOWLY = """
import io, time, numpy
save = numpy.savez_compressed
def slowly(path, **arrays):
    save(content := io.BytesIO(), **arrays)
    with open(path, "wb", buffering=0) as file:
        for begin in range(0, len(content.getvalue()), 4000):
            file.write(content.getvalue()[begin : begin + 4000])
            time.sleep(0.02)
numpy.savez_compressed = slowly
"""


@pytest.mark.slow
def test_a_kernel_that_is_killed_leaves_nothing_that_is_taken_for_mnist(cache, offer, trials):
    def drip(handler):
        start(handler, len(NPZ))
        for begin in range(0, len(NPZ), 4000):
            handler.wfile.write(NPZ[begin : begin + 4000])
            time.sleep(0.02)

    for trial in range(trials):
        server, delay = offer(drip), random.uniform(0, 1.2)
        kernel = process(server.addresses, "data.load_mnist(n_valid=10)", WRITE_SLOWLY)
        begin = time.monotonic()
        while not server.asked and time.monotonic() - begin < 30:
            time.sleep(0.01)
        time.sleep(delay)
        kernel.kill()
        kernel.communicate()
        state = data.status()[0][2]
        assert state in {"MNIST", "does not exist"} or "neither mnist.npz" in state, (trial, delay, state)
        assert is_tiny(load())
        shutil.rmtree(cache)


# ---- What people see of it --------------------------------------------------------------------------------


def test_progress_shows_on_a_terminal_and_goes_away(cache, monkeypatch, offer):
    offer(NPZ)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    load()
    *_, rest = shown = terminal.getvalue().split("\r")
    assert any(part.startswith("Downloading MNIST from 127.0.0.1") and "%" in part for part in shown)
    assert rest.strip() == shown[-2].strip() == ""


def test_a_notebook_shows_progress_where_somebody_watches_and_errors_as_a_sentence(cache, monkeypatch, offer):
    import nbformat
    from nbclient import NotebookClient

    from labtools import run

    server = offer(NPZ)
    settings = ["", json.dumps([SHAPES, DIGESTS, server.addresses])]
    monkeypatch.setenv("LABKIT_LIVE", "0")
    cells = [
        f"import os, sys; sys.path.insert(0, {str(data.PROJECT)!r}); sys.argv = {settings!r}\n{LOADER}",
        "assert data.load_mnist(n_valid=10).source.startswith('download')",
        f"os.remove({str(cache / 'mnist.npz')!r}); os.environ['LABKIT_LIVE'] = '1'; digits = data.load_mnist(n_valid=10)",
        "os.environ['LABKIT_DATA'] = 'nowhere'; data.load_mnist(n_valid=10)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, allow_errors=True, km=run.kernel_manager()).execute()
    assert len(server.asked) == 2
    hidden, shown, (error,) = (cell.outputs for cell in notebook.cells[1:])
    assert hidden == []
    assert "Downloading MNIST from" in "".join(output.get("text", "") for output in shown)
    assert " ".join(error.traceback) == f"DataError: {error.evalue}"  # in lines, without a stack trace
    assert "nowhere, which does not exist" in error.evalue


# ---- The stand-in -----------------------------------------------------------------------------------------


@pytest.fixture
def digits(monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_DATA", "digits")
    loaded = load_mnist(scale=False)
    out = capsys.readouterr().out
    assert is_one_sentence(out)
    assert "This is not MNIST (LABKIT_DATA=digits)" in out
    return loaded


def test_digits_look_like_mnist(digits):
    assert (digits.name, digits.x_train.shape, digits.x_train.dtype) == ("digits", (27_425, 28, 28), np.uint8)
    assert digits.x_valid.shape == digits.x_test.shape == (350, 28, 28)
    assert (digits.x_train.min(), digits.x_train.max()) == (0, 255)
    for images in (digits.x_train[:1097], digits.x_valid, digits.x_test):
        assert images.sum() == images[:, 4:24, 4:24].sum()  # the border is empty
    assert 0.15 < (digits.x_train > 0).mean() < 0.25  # MNIST: 0.19
    assert 30 < digits.x_train.mean() < 45  # MNIST: 33
    assert 70 < digits.x_train.std() < 90  # MNIST: 79
    assert np.bincount(digits.y_train).min() > 0.08 * len(digits.y_train)


def test_digits_are_those_of_scikit_learn(digits):
    """Sampled at the centres of the 8x8 cells, each picture resembles one bundled image most, with the same label."""
    from sklearn.datasets import load_digits

    def normalized(pixels):
        pixels = pixels - pixels.mean(axis=1, keepdims=True)
        return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)

    bundle = load_digits()
    pixels = np.concatenate([digits.x_train[:1097], digits.x_valid, digits.x_test])
    labels = np.concatenate([digits.y_train[:1097], digits.y_valid, digits.y_test])
    centres = (4 + 2.5 * (np.arange(8) + 0.5)).astype(int)
    small = pixels[:, centres][:, :, centres].reshape(len(pixels), 64).astype(float)
    nearest = (normalized(small) @ normalized(bundle.data).T).argmax(axis=1)
    assert np.mean(bundle.target[nearest] == labels) > 0.995
    assert len(set(nearest)) > 0.95 * 1797  # every image is used once


def test_no_copy_of_a_held_out_digit_is_trained_on(digits):
    held_out = {image.tobytes() for image in np.concatenate([digits.x_valid, digits.x_test])}
    assert len(held_out) == 700
    assert held_out.isdisjoint(image.tobytes() for image in digits.x_train)
    images, labels = digits.x_train.reshape(25, 1097, 28, 28), digits.y_train.reshape(25, 1097)
    assert (labels == labels[0]).all()
    wide = np.pad(images[0], ((0, 0), (2, 2), (2, 2)))
    shifts = [(down, right) for down in range(5) for right in range(5)]
    found = [
        [s for s in shifts if np.array_equal(copies, wide[:, s[0] : s[0] + 28, s[1] : s[1] + 28])] for copies in images
    ]
    assert found[0] == [(2, 2)]  # the originals come first
    assert sorted(sum(found, [])) == shifts  # then each shift once


def test_digits_obey_the_other_arguments(digits, capsys):
    few = load_mnist(n_train=100, n_valid=20, n_test=30, scale=False)
    assert np.array_equal(few.x_train, digits.x_train[:100])
    assert np.array_equal(few.x_valid, digits.x_valid[:20])
    assert len(few.y_test) == 30
    most = load_mnist(n_train=60_000, n_valid=0, flatten=True, one_hot=True)
    assert (most.x_train.shape, len(most.x_valid), most.x_test.max()) == ((27_425, 784), 0, 1)
    assert np.array_equal(most.y_test.argmax(axis=1), digits.y_test)
    assert "27,425 training, 0 validation and 350 test" in capsys.readouterr().out


# ---- MNIST itself -----------------------------------------------------------------------------------------


@needs_mnist
def test_mnist_is_the_published_one_and_takes_little_memory(monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", REAL)
    tracemalloc.start()
    loaded = load_mnist()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 300e6  # float32 takes 220 MB; a detour through float64 would take 376 MB more
    assert (len(loaded.x_train), len(loaded.x_valid), len(loaded.x_test)) == (50_000, 10_000, 10_000)
    assert (loaded.x_train.dtype, loaded.x_train.min(), loaded.x_train.max()) == (np.float32, 0, 1)
    assert loaded.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    raw = load_mnist(n_valid=0, scale=False)
    arrays = (raw.x_train, raw.y_train.astype(np.uint8), raw.x_test, raw.y_test.astype(np.uint8))
    # Of the IDX files that hold these arrays, long before anybody computed the SHA-256 digests in labkit.
    assert [hashlib.md5(as_idx(array)).hexdigest() for array in arrays] == [
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ]
