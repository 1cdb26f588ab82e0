"""Write files so that they are whole or as they were before, however the process that writes them dies."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StorageError(RuntimeError):
    """Report that a disk takes no more: it is full, read-only or gone. The message names the file and the reason."""


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; mend that and give the same command, the run goes on "
            f"from its last checkpoint"
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: under another name in the same folder, flushed to disk, then renamed.

    Args:
        path: of the file; its folder is made if need be.
        data: the whole content.

    Raises:
        StorageError: the disk does not take it; no part of it is left.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_through(temporary, data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        flush_folder(path.parent)


def write_through(path: Path, data: bytes) -> None:
    """Write a file and flush it to disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
