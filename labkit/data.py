"""MNIST for the labs: found or downloaded, verified, split; without a network, a stand-in that says so."""

import gzip
import hashlib
import itertools
import math
import os
import sys
import tempfile
import textwrap
import time
import urllib.parse
import urllib.request
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
# Each address: its files with the digest of each, as pooch wants it.
ADDRESSES = (
    {
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz": (
            "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
        )
    },
    {
        f"https://ossci-datasets.s3.amazonaws.com/mnist/{IDX_NAMES[name]}.gz": f"md5:{digest}"
        for name, digest in {
            "x_train": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "y_train": "d53e105ee54ea40749a09fcbcd1e9432",
            "x_test": "9fb629c4189551a2d022fa330f9573f3",
            "y_test": "ec29112dd5afa0611ce80d1b7f02629c",
        }.items()
    },
)
BY_HAND = next(iter(ADDRESSES[0]))
TIMEOUT = (5, 10)  # seconds: to connect, and without one new byte
RETRY_SECONDS = 60  # after a failed download, later calls do not wait for the network again

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
    """Make sure that MNIST is in the cache folder: copied from LABKIT_DATA, or downloaded. Returns that folder.

    Raises DataError if it cannot be had or cannot be kept.
    """
    folder = cache_folder()
    if _has_mnist(folder):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place, path in _places():
            if place == "LABKIT_DATA" and _has_mnist(path):
                _keep(_read(path), folder)
                return folder
        _download(folder)
    except _Unusable as reason:
        raise DataError(
            f"MNIST could not be downloaded ({reason}); fetch {BY_HAND} on another computer and set LABKIT_DATA to "
            "the folder that it is in."
        ) from None
    except OSError as error:
        raise DataError(f"MNIST is here, but {_not_kept(error)}.") from None
    return folder


def cache_folder() -> Path:
    """The folder in which labkit keeps MNIST: LABKIT_CACHE, or nn-labs in the system's folder for caches."""
    if chosen := os.environ.get("LABKIT_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("nn-labs", appauthor=False)


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
            arrays, host, kept = _download_and_keep()
        except _Unusable as reason:
            _last_failure.update(when=time.monotonic(), why=str(reason))
            return None, digits, str(reason)
        notes += kept
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


# ---- Reading ---------------------------------------------------------------------------------------------


def _npz(file):
    """Read and verify the four arrays in an .npz file (an open binary file): {name: uint8 array}."""
    _refuse_web_page(file)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in SHAPES}
    except Exception:  # a spoilt archive can fail in a dozen ways, and all of them mean the same
        raise _Unusable(DAMAGED) from None
    for name, array in arrays.items():
        if (array.shape, array.dtype) != (SHAPES[name], np.uint8):
            raise _Unusable(f"is not MNIST (its {name} has another shape or type)")
        _verified(name, array.tobytes())
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


def _download_and_keep():
    """Download into the cache folder, or where that cannot be written, for this once: (arrays, host, notes)."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        host = _download(folder)
        return _read(folder), host, []
    except OSError as error:
        with tempfile.TemporaryDirectory() as elsewhere:
            host = _download(Path(elsewhere))
            return _read(Path(elsewhere)), host, [f"MNIST was downloaded and is used, but {_not_kept(error)}."]


def _download(folder):
    """Download MNIST into a folder from the first address that has it. Returns the host.

    A file is there as a whole, with the right digest, or not at all. Raises _Unusable where no address helps, and
    OSError where the folder cannot be written.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    reasons = []
    for files in ADDRESSES:
        host = urllib.parse.urlsplit(next(iter(files))).netloc
        try:
            for url, digest in files.items():
                downloader = pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=_progress(host))
                pooch.retrieve(url, digest, fname=url.rpartition("/")[2], path=folder, downloader=downloader)
        except PermissionError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno and not _is_of_network(error):
                raise  # such as a full disk
            reasons.append(f"{host} {_trouble(error)}")
            continue
        if _has_mnist(folder):
            return host
        reasons.append(f"{host} sent something else")
    raise _Unusable("; ".join(reasons))


def _progress(host):
    """A line of progress on a terminal or below a notebook's cell, which leaves nothing behind."""
    from tqdm import tqdm

    ipython = sys.modules.get("IPython")
    visible = sys.stderr.isatty() or (ipython is not None and hasattr(ipython.get_ipython(), "kernel"))
    text = f"Downloading MNIST from {host}"
    return tqdm(desc=text, unit="B", unit_scale=True, leave=False, file=sys.stdout, disable=not visible)


def _is_of_network(error):
    import requests

    return isinstance(error, requests.exceptions.RequestException)


def _trouble(error):
    """What went wrong with a host, as the predicate of a sentence."""
    from requests import exceptions

    proxy = urllib.parse.urlsplit(urllib.request.getproxies().get("https", "")).netloc
    kinds = [
        (exceptions.ProxyError, f"could not be reached through the proxy {proxy or 'that is set'}"),
        (exceptions.SSLError, "could not be trusted (its certificate was refused; REQUESTS_CA_BUNDLE can name yours)"),
        (exceptions.Timeout, "did not answer in time"),
        (exceptions.ConnectionError, "could not be reached (is there a network?)"),
        (ValueError, "sent a file that is not MNIST, or only a part of it"),
    ]
    if isinstance(error, exceptions.HTTPError):
        return f"answered with error {error.response.status_code}"
    return next((text for kind, text in kinds if isinstance(error, kind)), "broke off")


def _keep(arrays, folder):
    """Put MNIST into a folder, all of it or nothing."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        part = Path(file.name)
        try:
            np.savez_compressed(file, **arrays)
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise
    os.replace(part, folder / "mnist.npz")


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
        f"To get MNIST: run `labs data` when there is a network; or fetch {BY_HAND} on another computer "
        "and set LABKIT_DATA to the folder that it is in.",
    )
    print("#" * 80)
    for paragraph in paragraphs:
        for line in ["", *textwrap.wrap(paragraph, 74, break_long_words=False, break_on_hyphens=False)]:
            print(f"#  {line:<74}  #")
    print(f"#  {'':<74}  #")
    print("#" * 80)
