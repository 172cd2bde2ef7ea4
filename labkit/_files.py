"""Files that are written as a whole or not at all."""

import os
import shutil
import uuid
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Put a text into a file, which meanwhile holds what it held before. Raises OSError where that cannot be done."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        append(part, text)
        if path.exists():
            shutil.copymode(path, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def append(path: Path, text: str) -> None:
    """Add a text to a file, and come back when it is on the disk. Raises OSError where that cannot be done."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
