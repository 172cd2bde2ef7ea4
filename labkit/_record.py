"""The record of a study: a file of JSON lines, one a run, each with a checksum that tells an edit by hand."""

import contextlib
import json

from labkit import _files
from labkit._fingerprint import digest
from labkit.errors import LabError

ORDER = ("options", "seed", "data", "parameters", "train", "valid", "test", "seconds", "digest", "versions", "history")


class Record:
    """The runs that were written to a file, of a study or of several versions of it.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    """

    def __init__(self, path):
        self.path = path

    def read(self, preferred=None):
        """Read the file.

        Parameters
        ----------
        preferred : str, optional
            The digest whose line counts, where a run was written down more than once.

        Returns
        -------
        found : dict of key -> dict
            The sound lines; `key` makes their keys.
        damaged : list of int
            Numbers of the lines that were cut off, or changed by hand.

        Raises
        ------
        LabError
            If the file cannot be read.
        """
        found, damaged = {}, []
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return found, damaged
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(
                f"{self.path.name} cannot be read ({error}): get the course's copy back, with git or by downloading it."
            ) from None
        for number, written in enumerate(text.splitlines(), start=1):
            try:
                line = json.loads(written)
                check = line.pop("check")
                name = key(line["options"], line["seed"])
                known = line["digest"]
            except (ValueError, LookupError, TypeError, AttributeError):
                damaged.append(number)
                continue
            if check != digest(line):
                damaged.append(number)
            elif name not in found or known == preferred:
                found[name] = line
        return found, damaged

    def append(self, line=None):
        """Write one run down; without one, only find out whether the file can be written. Raises LabError if not."""
        with self._writing():
            _files.append(self.path, "" if line is None else written(line))

    def tidy(self, keys, preferred):
        """Rewrite the file in the order of these keys, each once: without damaged or replaced lines."""
        found, _ = self.read(preferred)
        text = "".join(written(found[name]) for name in keys if name in found)
        with self._writing():
            for left in self.path.parent.glob(f"{self.path.name}.*.part"):  # by a call that was killed
                left.unlink(missing_ok=True)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists() or self.path.read_bytes() != text.encode():
                _files.replace(self.path, text)

    @contextlib.contextmanager
    def _writing(self):
        """Say a full or forbidden disk in one sentence."""
        try:
            yield
        except OSError as error:
            raise LabError(
                f"{self.path} could not be written ({error.strerror or error}): make room on this disk, or use a copy "
                "of the course that you may write to, and record again; the runs that were written before are kept."
            ) from None


def key(options, seed):
    """What tells a run from the others: its options and its seed, as text."""
    return json.dumps([options, seed], sort_keys=True)


def written(line):
    """A line of the file: first what tells runs apart, last the checksum."""
    line = {name: line[name] for name in ORDER}
    return json.dumps(line | {"check": digest(line)}) + "\n"
