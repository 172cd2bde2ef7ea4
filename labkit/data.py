"""MNIST for the labs: found or downloaded, verified, split; without a network, a stand-in that says so."""

import contextlib
import functools
import gzip
import hashlib
import io
import itertools
import math
import os
import sys
import tempfile
import textwrap
import time
import urllib.parse
import warnings
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
# Each address offers one file with all arrays, or a file for each array.
ADDRESSES = (
    {"npz": "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"},
    {name: f"https://ossci-datasets.s3.amazonaws.com/mnist/{file}.gz" for name, file in IDX_NAMES.items()},
)
BY_HAND = ADDRESSES[0]["npz"]
PATIENCE = 10  # seconds until a host has answered, and then without one new byte
RETRY_SECONDS = 60  # after a failed download, later calls do not wait for the network again

PROJECT = Path(__file__).resolve().parents[1]
ON_PURPOSE = "LABKIT_DATA=digits"
DIGITS = "scikit-learn's bundled digits"

_session = {"failed": -math.inf, "why": "", "announced": False}  # the last failed download, and the notice about it


class DataError(LabError):
    """MNIST is not available as requested; the message says why and what to do."""


class _Unusable(Exception):
    """Why a place does not give MNIST: the predicate of a sentence, such as "is damaged"."""


class _Missing(_Unusable):
    """Nothing is there, which is no fault."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels in three parts, as `load_mnist` returns them.

    Attributes
    ----------
    x_train, x_valid, x_test : numpy.ndarray
        Images of shape (n, 28, 28), (n, 784) or (n, 28, 28, 1).
    y_train, y_valid, y_test : numpy.ndarray
        Labels of shape (n,), or (n, 10) when one-hot.
    name, source : str
        "MNIST", or "digits" for the stand-in; and where the data came from, for people to read.
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
    n_train: int | None = None,
    n_valid: int = 10_000,
    n_test: int | None = None,
    *,
    scale: bool = True,
    flatten: bool = False,
    channels: bool = False,
    one_hot: bool = False,
) -> Dataset:
    """Load MNIST, verified by its SHA-256 digests, and split it into training, validation and test data.

    Parameters
    ----------
    n_train, n_test : int, optional
        How many training and test images, from the first on; by default all: 50,000 and 10,000.
    n_valid : int
        How many validation images: the last of the 60,000 training images; 0 for none.
    scale : bool
        True gives float32 pixels in [0, 1]; False gives the raw uint8 pixels, 0 to 255.
    flatten, channels : bool
        Images of shape (n, 784), or (n, 28, 28, 1) as convolutional layers want them, instead of (n, 28, 28).
    one_hot : bool
        True gives labels as float32 of shape (n, 10); False as int64 of shape (n,), whose sums cannot overflow.

    Returns
    -------
    Dataset
        New arrays, the images in their original order.

    Raises
    ------
    LabError
        For a size out of range, and for `flatten` together with `channels`.
    DataError
        If LABKIT_DATA is set but does not lead to MNIST.

    Notes
    -----
    Looks in LABKIT_DATA (a folder or file; nowhere else when it is set), then in the cache folder and in Keras's,
    then downloads. If all of that fails, or LABKIT_DATA is the word "digits", it returns scikit-learn's 1,797 digits
    of 8x8 pixels, enlarged to 28x28, and prints that it did. Of these, 350 are for validation and 350 for testing,
    also where fewer are asked for. The other 1,097 are for training, followed by copies of themselves, shifted by up
    to 2 pixels, until there are 27,425. No copy of a validation or test image is trained on. Where more images are
    asked for than there are, all are given.
    """
    if flatten and channels:
        raise LabError("Choose flatten=True or channels=True: an image cannot have both shapes.")
    images, test_images = SHAPES["x_train"][0], SHAPES["x_test"][0]
    n_valid = _size("n_valid", n_valid, 0, images - 1)
    n_train = _size("n_train", images - n_valid if n_train is None else n_train, 1, images - n_valid)
    n_test = _size("n_test", test_images if n_test is None else n_test, 0, test_images)

    found, source, why_not = _find()
    if not why_not:
        found |= {f"{kind}_valid": found[f"{kind}_train"][images - n_valid :] for kind in "xy"}
    shape = (28 * 28,) if flatten else (28, 28, 1) if channels else (28, 28)
    parts = {}
    for part, size in (("train", n_train), ("valid", n_valid), ("test", n_test)):
        # Only the part in hand is converted, and in one step, so that memory stays small.
        pixels, labels = found[f"x_{part}"][:size], found[f"y_{part}"][:size]
        pixels = np.divide(pixels, 255, dtype=np.float32) if scale else pixels.copy()
        parts[f"x_{part}"] = pixels.reshape(len(pixels), *shape)
        parts[f"y_{part}"] = np.eye(10, dtype=np.float32)[labels] if one_hot else labels.astype(np.int64)
    data = Dataset(**parts, name="digits" if why_not else "MNIST", source=source)
    if why_not:
        _announce(data, why_not)
    return data


def status() -> list[tuple[str, str, str]]:
    """Tell where MNIST would come from now, without downloading.

    Returns
    -------
    list of (place, path, state)
        Each place in the order of looking; with LABKIT_DATA set there is no other. The state is "MNIST" or says what
        is wrong, and the first "MNIST" is what `load_mnist` would use.
    """
    if _chosen() == "digits":
        return [("LABKIT_DATA", "digits", f"{DIGITS}, chosen on purpose")]
    return [(place, str(path), _state(path)) for place, path in _places()]


def has_mnist() -> bool:
    """Whether `load_mnist` would use MNIST now, without a download."""
    return any(_state(path) == "MNIST" for _, path in _places())


def fetch() -> Path:
    """Make sure that MNIST is in the cache folder: copied from where it is on this computer, or downloaded.

    Returns
    -------
    pathlib.Path
        The cache folder.

    Raises
    ------
    DataError
        If MNIST is not available, or cannot be kept.
    """
    folder = cache_folder()
    if _state(folder) == "MNIST":
        return folder
    path = next((path for _, path in _places() if _state(path) == "MNIST"), None)
    try:
        arrays = _read(path) if path else _download()[0]
    except _Unusable as reason:
        advice = f"fetch {BY_HAND} on another computer, and set LABKIT_DATA to the folder that it is in"
        raise DataError(f"MNIST could not be downloaded ({reason}): {advice}.") from None
    if why_not := _keep(arrays):
        raise DataError(f"MNIST was found, but {why_not}: set LABKIT_CACHE to a folder that has room for it.")
    return folder


def cache_folder() -> Path:
    """The folder in which labkit keeps MNIST: LABKIT_CACHE, or nn-labs in the system's folder for caches."""
    if chosen := os.environ.get("LABKIT_CACHE", "").strip():
        # Relative to the project, because notebooks run in another folder than the command that fetches MNIST for them.
        return PROJECT / os.path.expanduser(chosen)
    import platformdirs

    # Where the system knows of no home, as in some containers, platformdirs raises this, or leaves the "~".
    with contextlib.suppress(RuntimeError):
        if (folder := platformdirs.user_cache_path("nn-labs", appauthor=False)).is_absolute():
            return folder
    return Path(tempfile.gettempdir(), "nn-labs")  # shared, which is no harm: each file is verified when it is read


def _size(name, value, least, most):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise LabError(f"{name} must be a whole number from {least:,} to {most:,}, but it is {value!r}.")
    return int(value)


# ---- Finding ---------------------------------------------------------------------------------------------


def _find():
    """Look in every place, then download: (arrays, source, why they are the stand-in's or "")."""
    for place, path in _places():
        try:
            return _read(path), place, ""
        except _Unusable as reason:
            if _chosen():
                sentence = f"LABKIT_DATA leads to {path}, which {reason}: correct the variable, or unset it."
                raise DataError(sentence) from None
            if not isinstance(reason, _Missing):
                print(f"Passed over {place}: {path} {reason}.")
    if _chosen() == "digits":
        return _digits(), DIGITS, ON_PURPOSE
    if time.monotonic() - _session["failed"] >= RETRY_SECONDS:
        try:
            arrays, host = _download()
        except _Unusable as reason:
            _session.update(failed=time.monotonic(), why=str(reason))
        else:
            if why_not := _keep(arrays):
                print(f"MNIST was downloaded and is used, but {why_not}.")
            return arrays, f"download from {host}", ""
    return _digits(), DIGITS, _session["why"]


def _chosen():
    return os.environ.get("LABKIT_DATA", "").strip()


def _places():
    """The places to look in, in order: [(name, path)]."""
    if _chosen() == "digits":
        return []
    if _chosen():
        path = Path(os.path.expanduser(_chosen()))
        return [("LABKIT_DATA", next((p for p in (path, PROJECT / path) if os.path.exists(p)), path))]
    keras = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return [("the cache", cache_folder()), ("Keras's cache", Path(keras, "datasets", "mnist.npz"))]


def _state(path):
    """Tell "MNIST", or what is wrong with a place; files that have not changed are not read again."""
    try:
        stats = [file.stat() for file in _files(path).values()]
    except (OSError, _Unusable):
        return _verdict.__wrapped__(path, None)  # without remembering it
    # The last of the three changes with a file's permissions, too.
    return _verdict(path, tuple((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats))


@functools.lru_cache
def _verdict(path, _):
    try:
        return "MNIST" if _read(path) else ""
    except _Unusable as reason:
        return str(reason)


def _read(path):
    """Read and verify MNIST from a folder or file: {name: uint8 array}."""
    arrays = {}
    try:
        for name, file in _files(path).items():
            arrays |= _unpack(name, file.read_bytes(), "" if file == path else f"holds a {file.name} that ")
    except OSError as error:
        raise _Unusable(f"cannot be read ({error.strerror or error})") from None
    return arrays


def _files(path):
    """What there is in a folder or file: {"npz": path} or {name of an array: path}."""
    if path.is_file() and "ubyte" not in path.name:
        return {"npz": path}
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise _Missing("does not exist")
    if folder == path and (folder / "mnist.npz").is_file():
        return {"npz": folder / "mnist.npz"}
    # In each of their spellings; of two that hold the same, the one that is not compressed.
    idx = [file for file in sorted(folder.glob("*ubyte*"), reverse=True) if file.is_file()]
    idx = {file.name.replace(".idx", "-idx").removesuffix(".gz"): file for file in idx}
    if missing := [file for file in IDX_NAMES.values() if file not in idx]:
        raise _Missing(f"holds neither mnist.npz nor {missing[0]}")
    return {name: idx[file] for name, file in IDX_NAMES.items()}


def _unpack(name, raw, subject):
    """Unpack and verify the bytes of a file, an IDX file or an npz with all four arrays: {name: uint8 array}."""
    # The commonest wrong file is the page of a proxy, or of a network that wants a login first.
    if raw[:200].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise _Unusable(f"{subject}is a web page, not data")
    try:
        if name == "npz":
            with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in SHAPES}
        else:
            raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
            sizes = np.frombuffer(raw, ">u4", count=raw[3], offset=4)  # the byte before them is how many there are
            arrays = {name: np.frombuffer(raw, np.uint8, offset=4 + sizes.nbytes).reshape(sizes)}
    except Exception:  # a spoilt file can fail in a dozen ways, and all of them mean the same
        raise _Unusable(f"{subject}is damaged or incomplete") from None
    for key, array in arrays.items():
        same = (array.shape, array.dtype) == (SHAPES[key], np.uint8)
        if not same or hashlib.sha256(array.tobytes()).hexdigest() != SHA256[key]:
            raise _Unusable(f"{subject}is not MNIST (its {key} differs)")
    return arrays


# ---- Downloading -----------------------------------------------------------------------------------------


def _download():
    """Download MNIST from the first address that has it: (arrays, host). Raises _Unusable where none helps."""
    hosts = {}
    for files in ADDRESSES:
        host = urllib.parse.urlsplit(next(iter(files.values()))).netloc
        try:
            arrays = {}
            for name, url in files.items():
                arrays |= _unpack(name, _get(url, host), "sent a file that ")
            return arrays, host
        except _Unusable as reason:
            hosts.setdefault(str(reason), []).append(host)
    raise _Unusable("; ".join(f"{' and '.join(names)} {reason}" for reason, names in hosts.items()))


def _get(url, host):
    """Download a file into memory, where neither a full disk nor the end of the process can spoil it: bytes."""
    from multiprocessing.pool import ThreadPool

    import requests

    with warnings.catch_warnings(action="ignore"):  # pooch looks for widgets, and tqdm would warn of having none
        import pooch
    file = os.environ.get("SSL_CERT_FILE", "")  # as for other programs; requests itself knows REQUESTS_CA_BUNDLE only
    known = os.path.isfile(file) and not os.environ.get("REQUESTS_CA_BUNDLE")
    options = {"timeout": PATIENCE, "verify": file if known else True}
    content = io.BytesIO()
    try:
        with ThreadPool(1) as pool:  # requests limits each address of a host, but not their sum, nor finding them
            pool.apply_async(requests.head, (url,), options).get(PATIENCE)
        with _progress(host) as bar:
            pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, **options)(url, content, None)
    except Exception as error:  # whatever it is, this address does not help
        raise _Unusable(_trouble(error, url)) from None
    return content.getvalue()


def _progress(host):
    """Show progress where somebody watches: on a terminal, or below a notebook's cell, but not in `labs run`."""
    from tqdm import tqdm

    ipython = sys.modules.get("IPython")
    notebook = ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
    hidden = not sys.stdout.isatty() and not (notebook and os.environ.get("LABKIT_LIVE") != "0")
    text = f"Downloading MNIST from {host}"
    # pooch asks whether the bar is true, which one without a total cannot answer.
    return tqdm(desc=text, total=1, unit="B", unit_scale=True, leave=False, file=sys.stdout, disable=hidden)


def _trouble(error, url):
    """What went wrong with an address, as the predicate of a sentence about its host."""
    import multiprocessing

    from requests import exceptions, utils

    if isinstance(error, exceptions.HTTPError):
        what = f"answered with error {error.response.status_code}"
    elif isinstance(error, exceptions.Timeout | multiprocessing.TimeoutError):
        what = f"did not answer within {PATIENCE} seconds"
    elif isinstance(error, exceptions.SSLError) or type(error) is OSError:  # the latter where there is no such file
        what = "is not trusted: let REQUESTS_CA_BUNDLE or SSL_CERT_FILE name the file of your network's certificates"
    else:
        what = "could not be reached or stopped sending"
    proxy = utils.select_proxy(url, utils.get_environ_proxies(url))
    if not proxy:
        return what
    variables = {f"{urllib.parse.urlsplit(url).scheme}_proxy", "all_proxy"}
    variable = next((name for name in os.environ if name.lower() in variables), "the system's settings")
    # Without the password that may stand in it.
    return f"(through the proxy {proxy.rpartition('@')[2].rpartition('//')[2]} of {variable}) {what}"


def _keep(arrays):
    """Put MNIST into the cache folder, all of it or nothing: None, or the clause that says why it is not there."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A folder, because a temporary file could be read by its owner only, and a cache may serve a whole class.
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as part:
            np.savez_compressed(Path(part, "mnist.npz"), **arrays)
            os.replace(Path(part, "mnist.npz"), folder / "mnist.npz")
    except OSError as error:
        # Windows replaces no file that is open: another kernel may have been first, and be reading it now.
        if _state(folder) != "MNIST":
            return f"it could not be kept in {folder} ({error.strerror or error})"
    return None


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
    if why == ON_PURPOSE or _session["announced"]:
        print(f"This is not MNIST ({why}): you have scikit-learn's digits, enlarged; {sizes}.")
        return
    _session["announced"] = True
    print("#" * 80)
    for paragraph in (
        "THIS IS NOT MNIST",
        f"MNIST is not on this computer, and the download failed: {why}.",
        "In its place you get scikit-learn's bundled digits: 1,797 real images of 8x8 pixels, enlarged to 28x28, and "
        f"copies of those for training, shifted by up to 2 pixels. You have {sizes}.",
        "The labs run, but accuracies differ from those on MNIST.",
        f"To get MNIST: run `labs data` when there is a network; or fetch {BY_HAND} on another computer, and set "
        "LABKIT_DATA to the folder that it is in.",
    ):
        lines = textwrap.fill(paragraph, 78, break_long_words=False, break_on_hyphens=False)
        print("#", textwrap.indent(lines, "# "), sep="\n")
    print("#" * 80)
