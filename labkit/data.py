"""MNIST for the labs: found or downloaded, verified, split; without a network, a stand-in that says so."""

import concurrent.futures
import gzip
import hashlib
import http.client
import io
import itertools
import math
import os
import socket
import ssl
import sys
import tempfile
import textwrap
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labkit.errors import LabError

SHAPES = {"x_train": (60_000, 28, 28), "y_train": (60_000,), "x_test": (10_000, 28, 28), "y_test": (10_000,)}
# Of each array's bytes: the same data comes in differently packed files, so no file's own digest would do.
SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
# An address that ends in .npz is one file; any other is the folder of the four gzipped IDX files.
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
CONNECT_SECONDS = 5  # until a mirror begins to answer
STALL_SECONDS = 10  # without one new byte
MIRROR_SECONDS = 120  # in all for one mirror, however busy it looks
RETRY_SECONDS = 60  # after a failed download, later calls do not wait for the network again
STALE_SECONDS = 3600  # a partial file this old was left by a process that is gone
MAX_BYTES = 32_000_000  # of one downloaded file; the largest real one has 11.5 million

PROJECT = Path(__file__).resolve().parents[1]
ON_PURPOSE = "LABKIT_DATA=digits"
DAMAGED = "is damaged or incomplete"

_last_failure = {"when": -math.inf, "why": ""}
_announced = {ON_PURPOSE}  # reasons that a line is enough for: who chose the digits, or has seen the notice, knows


class DataError(LabError):
    """MNIST cannot be had as asked for; the message says why and what to do."""


class _Unusable(Exception):
    """Why a place does not give MNIST: the predicate of a sentence, such as "is damaged"."""


class _Missing(_Unusable):
    """Nothing is there, which is no fault."""


class _Unreachable(_Unusable):
    """There is no talking to this host, so its other addresses need not be tried."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels in three parts, as `load_mnist` returns them.

    x_train, x_valid, x_test: images; shape (n, 28, 28), (n, 784) or (n, 28, 28, 1).
    y_train, y_valid, y_test: labels; shape (n,), or (n, 10) when one-hot.
    name: "MNIST", or "digits" for the stand-in.
    source: where the data came from, for people to read.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    name: str
    source: str

    def __repr__(self):
        # Notebooks' outputs are compared, so this says nothing that differs between machines.
        lines = [f"{self.name}, pixels from {self.x_train.min()} to {self.x_train.max()}"]
        for name in ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test"):
            array = getattr(self, name)
            lines.append(f"  {name:<7}  {array.shape!s:<18}  {array.dtype}")
        return "\n".join(lines)


def load_mnist(
    n_train=None, n_valid=10_000, n_test=None, *, scale=True, flatten=False, channels=False, one_hot=False
) -> Dataset:
    """Load MNIST, verified by its SHA-256 digests, and split it into training, validation and test data.

    Images keep their original order. The last `n_valid` of the 60,000 training images are for validation.

    n_train: how many training images, from the first on; None means all that validation leaves (50,000).
    n_valid: how many validation images; 0 for none.
    n_test: how many test images, from the first on; None means all 10,000.
    scale: True gives float32 pixels in [0, 1]; False gives the raw uint8 pixels, 0 to 255.
    flatten: True gives images of shape (n, 784) instead of (n, 28, 28).
    channels: True gives images of shape (n, 28, 28, 1), as convolutional layers want them.
    one_hot: True gives labels as float32 of shape (n, 10); False as int64 of shape (n,), in which sums and
        differences of labels cannot overflow, as they do in the uint8 of the files.

    Looks in LABKIT_DATA (a folder or file; nowhere else when it is set), then in the cache folder and in
    Keras's, then downloads. If all of that fails, or LABKIT_DATA is the word "digits", it returns
    scikit-learn's 1,797 digits of 8x8 pixels, enlarged to 28x28, and prints that it did. Of these, 350 are
    for validation and 350 for testing, also where fewer are asked for. The other 1,097 are for training,
    followed by copies of themselves, shifted by up to 2 pixels, until there are 27,425. No copy of a
    validation or test image is trained on. Where more images are asked for than there are, all are given.

    Raises ValueError for a size out of range and for `flatten` together with `channels`; DataError if
    LABKIT_DATA is set but does not lead to MNIST.
    """
    if flatten and channels:
        raise ValueError("Choose flatten=True or channels=True: an image cannot have both shapes.")
    images, test_images = SHAPES["x_train"][0], SHAPES["x_test"][0]
    n_valid = _size("n_valid", n_valid, 0, images - 1)
    n_train = _size("n_train", images - n_valid if n_train is None else n_train, 1, images - n_valid)
    n_test = _size("n_test", test_images if n_test is None else n_test, 0, test_images)

    found, source, why_not = _find()
    if why_not:
        found = _digits()
    else:
        start = images - n_valid
        found["x_valid"], found["y_valid"] = found["x_train"][start:], found["y_train"][start:]
    parts = {}
    for part, size in (("train", n_train), ("valid", n_valid), ("test", n_test)):
        parts[f"x_{part}"] = _pixels(found[f"x_{part}"][:size], scale, flatten, channels)
        parts[f"y_{part}"] = _labels(found[f"y_{part}"][:size], one_hot)
    data = Dataset(**parts, name="digits" if why_not else "MNIST", source=source)
    if why_not:
        _announce(data, why_not)
    return data


def status() -> list[tuple[str, str, str]]:
    """Tell where MNIST would come from now, without downloading.

    Returns (place, path, state) for each place in the order of looking; state is "MNIST" or says what is wrong.
    The first "MNIST" is what `load_mnist` would use; with LABKIT_DATA set there is no other place.
    """
    if os.environ.get("LABKIT_DATA", "").strip() == "digits":
        return [("LABKIT_DATA", "digits", "scikit-learn's bundled digits, chosen on purpose")]
    places = []
    for place, path in _places():
        try:
            _read(path)
            places.append((place, str(path), "MNIST"))
        except _Unusable as reason:
            places.append((place, str(path), str(reason)))
    return places


def has_mnist() -> bool:
    """Whether `load_mnist` would use MNIST now, without a download."""
    return any(state == "MNIST" for _, _, state in status())


def fetch() -> Path:
    """Make sure that MNIST is in the cache folder, by downloading it if need be; return that folder.

    Raises DataError if it cannot be downloaded or cannot be kept.
    """
    folder = cache_folder()
    if not _has_mnist(folder):
        try:
            _, packed, _ = _download()
            _keep(packed)
        except _Unusable as reason:
            raise DataError(
                f"MNIST could not be downloaded ({reason}); fetch {MIRRORS[0]} on another computer "
                "and set LABKIT_DATA to the folder that it is in."
            ) from None
        except OSError as error:
            raise DataError(f"MNIST was downloaded, but {_not_kept(error)}.") from None
    return folder


def cache_folder() -> Path:
    """The folder in which labkit keeps MNIST: LABKIT_CACHE, or nn-labs in the system's folder for caches."""
    if chosen := os.environ.get("LABKIT_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local") / "nn-labs" / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "nn-labs"
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "nn-labs"


def _home():
    """The user's home; where the system knows of none, as in some containers, the folder for temporary files."""
    try:
        return Path.home()
    except RuntimeError:  # shared with others, which is no harm: each file is verified when it is read
        return Path(tempfile.gettempdir())


def _size(name, value, least, most):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least:,} to {most:,}, but it is {value!r}.")
    return int(value)


def _pixels(images, scale, flatten, channels):
    """Copy and shape raw images; only the part in hand is converted, so that memory stays small."""
    images = images.astype(np.float32 if scale else np.uint8)
    if scale:
        images /= 255
    if flatten:
        return images.reshape(len(images), 28 * 28)
    return images[..., np.newaxis] if channels else images


def _labels(labels, one_hot):
    return np.eye(10, dtype=np.float32)[labels] if one_hot else labels.astype(np.int64)


# ---- Finding ---------------------------------------------------------------------------------------------


def _find():
    """Look in every place, then download: (arrays or None, source, why there are none or None)."""
    chosen = os.environ.get("LABKIT_DATA", "").strip()
    digits = "scikit-learn's bundled digits"
    if chosen == "digits":
        return None, digits, ON_PURPOSE
    notes = []
    try:
        for place, path in _places():
            try:
                return _read(path), place, None
            except _Unusable as reason:
                if chosen:
                    sentence = f"LABKIT_DATA leads to {path}, which {reason}: correct the variable, or unset it."
                    raise DataError(sentence) from None
                if not isinstance(reason, _Missing):
                    notes.append(f"Passed over {place}: {path} {reason}.")
        if time.monotonic() - _last_failure["when"] < RETRY_SECONDS:
            return None, digits, _last_failure["why"]
        try:
            arrays, packed, host = _download()
        except _Unusable as reason:
            _last_failure.update(when=time.monotonic(), why=str(reason))
            return None, digits, str(reason)
        try:
            _keep(packed)
        except OSError as error:
            notes.append(f"MNIST was downloaded and is used, but {_not_kept(error)}.")
        return arrays, f"download from {host}", None
    finally:
        # Only now: taking away the download's progress bar takes away what the notebook's cell printed before.
        for note in notes:
            print(note)


def _places():
    """The places to look in, in order: [(name, path)]."""
    if chosen := os.environ.get("LABKIT_DATA", "").strip():
        path = Path(chosen).expanduser()
        return [("LABKIT_DATA", next((p for p in (path, PROJECT / path) if os.path.exists(p)), path))]
    keras = Path(os.environ.get("KERAS_HOME") or _home() / ".keras")
    return [("the cache", cache_folder()), ("Keras's cache", keras / "datasets" / "mnist.npz")]


def _has_mnist(path):
    try:
        _read(path)
    except _Unusable:
        return False
    return True


def _read(path):
    """Read and verify MNIST from a folder or file: {name: uint8 array}."""
    try:
        if path.is_file():
            if "ubyte" not in path.name:
                with path.open("rb") as file:
                    return _npz(file)
            path = path.parent
        if not path.is_dir():
            raise _Missing("does not exist")
        if (path / "mnist.npz").is_file():
            try:
                return _read(path / "mnist.npz")
            except _Unusable as reason:
                raise _Unusable(f"holds a mnist.npz that {reason}") from None
        return {name: _read_idx(path, name) for name in SHAPES}
    except OSError as error:
        raise _Unusable(f"cannot be read ({error.strerror or error})") from None


def _read_idx(folder, name):
    plain = IDX_NAMES[name]
    for file_name in (plain, plain.replace("-idx", ".idx")):
        for path in (folder / file_name, folder / f"{file_name}.gz"):
            if path.is_file():
                with path.open("rb") as file:
                    try:
                        return _idx(file, name)
                    except _Unusable as reason:
                        raise _Unusable(f"holds a {path.name} that {reason}") from None
    raise _Missing(f"holds neither mnist.npz nor {plain}")


# ---- Reading: nothing here trusts the file ---------------------------------------------------------------


def _npz(file):
    """Read and verify the four arrays in an .npz file (an open binary file): {name: uint8 array}."""
    _refuse_web_page(file)
    arrays = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for name, shape in SHAPES.items():
                with archive.open(f"{name}.npy") as member:
                    # The header comes first, so that neither a pickle nor an array of many gigabytes is ever read.
                    version = np.lib.format.read_magic(member)
                    if version != (1, 0) or np.lib.format.read_array_header_1_0(member) != (shape, False, np.uint8):
                        raise _Unusable(f"is not MNIST (its {name} has another shape or type)")
                    arrays[name] = _verified(name, member.read(math.prod(shape)))
    except _Unusable:
        raise
    except Exception:  # a spoilt archive can fail in a dozen ways, and all of them mean the same
        raise _Unusable(DAMAGED) from None
    return arrays


def _idx(file, name):
    """Read and verify one array from an IDX file (an open binary file), gzipped or not: uint8 array."""
    _refuse_web_page(file)
    shape = SHAPES[name]
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    try:
        if file.read(2) == b"\x1f\x8b":
            file.seek(0)
            file = gzip.GzipFile(fileobj=file)
        file.seek(0)
        same = file.read(len(header)) == header
        raw = file.read(math.prod(shape))
    except Exception:  # as above
        raise _Unusable(DAMAGED) from None
    if not same:
        raise _Unusable("is not MNIST (its header differs)")
    return _verified(name, raw)


def _refuse_web_page(file):
    """Name the commonest wrong file: the page of a proxy, or of a network that wants a login first."""
    if file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise _Unusable("is a web page, not data")
    file.seek(0)


def _verified(name, raw):
    if len(raw) != math.prod(SHAPES[name]):
        raise _Unusable(DAMAGED)
    if hashlib.sha256(raw).hexdigest() != SHA256[name]:
        raise _Unusable(f"is not MNIST (the digest of its {name} differs)")
    return np.frombuffer(raw, np.uint8).reshape(SHAPES[name])


# ---- Downloading -----------------------------------------------------------------------------------------


def _download():
    """Get MNIST from the first mirror that has it: (arrays, the bytes of an .npz file, host)."""
    reasons, unreachable, bar = {}, set(), _Bar()
    for url in MIRRORS:
        host = urllib.parse.urlsplit(url).netloc
        if host in unreachable:
            continue
        try:
            return *_from_mirror(url, bar), host
        except _Unusable as reason:
            reasons.setdefault(str(reason), []).append(host)
            if isinstance(reason, _Unreachable):
                unreachable.add(host)
        finally:
            bar.clear()
    raise _Unusable("; ".join(f"{' and '.join(hosts)} {reason}" for reason, hosts in reasons.items()))


def _from_mirror(url, bar):
    """Get the arrays, and the bytes of an .npz file that holds them, from one mirror."""
    deadline = time.monotonic() + MIRROR_SECONDS

    def get(address, read):
        content = _get(address, deadline, bar)
        try:
            return content, read(io.BytesIO(content))
        except _Unusable as reason:
            raise _Unusable(f"sent a file that {reason}") from None

    if url.endswith(".npz"):
        packed, arrays = get(url, _npz)
        return arrays, packed
    arrays = {}
    for name, file_name in IDX_NAMES.items():
        _, arrays[name] = get(f"{url}{file_name}.gz", lambda file, name=name: _idx(file, name))
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return arrays, file.getvalue()


def _get(url, deadline, bar):
    """Download one file into memory: bytes."""
    try:
        response = _within(CONNECT_SECONDS, lambda: _opener().open(url, timeout=STALL_SECONDS))
    except urllib.error.HTTPError as error:
        raise _Unusable(f"answered with error {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _Unreachable(_trouble(getattr(error, "reason", error))) from None
    content = bytearray()
    with response:
        size = response.length
        try:
            # read1 returns as soon as anything has come; read would wait for a full block from a server that drips.
            while block := response.read1(1 << 16):
                content += block
                if len(content) > MAX_BYTES:
                    raise _Unusable("sent far more than MNIST")
                if time.monotonic() > deadline:
                    raise _Unusable(f"needed more than {MIRROR_SECONDS} seconds")
                bar.show(url, len(content), size)
        except TimeoutError:
            raise _Unusable("stopped sending") from None
        except (OSError, http.client.HTTPException):
            raise _Unusable("broke off") from None
    if size is not None and len(content) < size:
        raise _Unusable("broke off")
    return bytes(content)


def _opener():
    """Only http and https, also after a redirection: urllib's own opener would read local files as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_certificates()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _certificates():
    """Whom to trust: the system's authorities, and certifi's, because on a Mac python.org's Python knows of none."""
    context = ssl.create_default_context()
    with suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _within(seconds, function):
    """Call function, but wait no longer: urllib limits each address of a host, not their sum, nor finding the host."""
    outcome = concurrent.futures.Future()

    def work():
        try:
            outcome.set_result(function())
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result(seconds)


def _trouble(reason):
    if isinstance(reason, socket.gaierror):
        return "could not be found (is there a network?)"
    if isinstance(reason, TimeoutError):
        return f"did not answer within {CONNECT_SECONDS} seconds"
    if isinstance(reason, ssl.SSLError):
        return "could not be trusted (its certificate was refused)"
    return "could not be reached"


class _Bar:
    """A line of progress on a terminal or below a notebook's cell, which leaves nothing behind."""

    def __init__(self):
        ipython = sys.modules.get("IPython")
        self.notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
        self.visible = self.notebook or sys.stderr.isatty()
        self.shown = -math.inf

    def show(self, url, done, size):
        if self.visible and time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            part = f"{done / size:4.0%} of {size / 1e6:.1f} MB" if size else f"{done / 1e6:.1f} MB"
            line = f"Downloading MNIST from {urllib.parse.urlsplit(url).netloc}: {part}"
            print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)

    def clear(self):
        if self.shown == -math.inf:
            return
        if self.notebook:
            from IPython.display import clear_output

            clear_output()
        else:
            print("\r" + " " * 78, end="\r", file=sys.stderr, flush=True)
        self.shown = -math.inf


def _keep(packed):
    """Put an .npz file into the cache folder, all of it or nothing; OSError if that is impossible."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"mnist-{uuid.uuid4().hex}.part"
    try:
        with partial.open("xb") as file:
            now = os.fstat(file.fileno()).st_mtime  # by the clock that stamped the others, whatever ours says
            for other in folder.glob("mnist-*.part"):
                with suppress(OSError):
                    if abs(now - other.stat().st_mtime) > STALE_SECONDS:
                        other.unlink()
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / "mnist.npz")
    except OSError:
        # Windows replaces no file that is open: another kernel may have been first and be reading it now.
        if not _has_mnist(folder):
            raise
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _not_kept(error):
    return f"it could not be kept in {cache_folder()} ({error.strerror or error})"


# ---- The stand-in ----------------------------------------------------------------------------------------


def _digits():
    """Make the stand-in from scikit-learn's bundled digits: {name: uint8 array}, validation data included."""
    from scipy import ndimage
    from sklearn.datasets import load_digits

    bundle = load_digits()
    # As in MNIST, a digit fills 20x20 pixels inside a border of 4. One matrix enlarges columns; transposed, rows.
    enlarge = ndimage.zoom(np.eye(8), (20 / 8, 1), order=3, mode="nearest", grid_mode=True)
    ink = enlarge @ (bundle.images / 16) @ enlarge.T
    # Enlarging blurs. More contrast gives about the share of white, grey and black pixels that MNIST has.
    ink = np.clip(1.6 * (ink - 0.2), 0, 1)
    images = np.zeros((len(ink), 28, 28), np.uint8)
    images[:, 4:24, 4:24] = np.rint(255 * ink)
    labels = bundle.target.astype(np.uint8)

    valid, test, train = np.split(np.random.default_rng(0).permutation(len(images)), [350, 700])
    # Small shifts first, none at all before any other: the first 1,097 training images are the originals.
    shifts = sorted(itertools.product(range(-2, 3), repeat=2), key=lambda shift: shift[0] ** 2 + shift[1] ** 2)
    return {
        "x_train": np.concatenate([np.roll(images[train], shift, axis=(1, 2)) for shift in shifts]),
        "y_train": np.tile(labels[train], len(shifts)),
        "x_valid": images[valid],
        "y_valid": labels[valid],
        "x_test": images[test],
        "y_test": labels[test],
    }


def _announce(data, why):
    """Say that this is not MNIST: once in a frame that nobody can miss, later in a line."""
    sizes = f"{len(data.x_train):,} training, {len(data.x_valid):,} validation and {len(data.x_test):,} test images"
    if why in _announced:
        print(f"This is not MNIST ({why}): you have scikit-learn's digits, enlarged; {sizes}.")
        return
    _announced.add(why)
    paragraphs = (
        "THIS IS NOT MNIST",
        f"MNIST is not on this computer, and the download failed: {why}.",
        "In its place you get scikit-learn's bundled digits: 1,797 real images of 8x8 pixels, enlarged to 28x28; "
        "1,097 of them are for training, 350 for validation, 350 for testing. Copies of the training images, "
        f"shifted by up to 2 pixels, make the training set longer. You have {sizes}.",
        "The labs run, but accuracies differ from those on MNIST.",
        f"To get MNIST: run `labs data` when there is a network; or fetch {MIRRORS[0]} on another computer "
        "and set LABKIT_DATA to the folder that it is in.",
    )
    print("#" * 80)
    for paragraph in paragraphs:
        for line in ["", *textwrap.wrap(paragraph, 74, break_long_words=False, break_on_hyphens=False)]:
            print(f"#  {line:<74}  #")
    print(f"#  {'':<74}  #")
    print("#" * 80)
