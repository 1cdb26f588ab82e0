"""The lock of a run: one process does a run, and any other can see that it does.

The system lets go of a lock when its process dies, however it dies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lora2.common.environment import first_process
from lora2.common.errors import BusyError, UserError
from lora2.common.files import StorageError, storing

NAME = ".lock"
WAIT_SECONDS = 1.0  # `make status` holds a lock for an instant while it looks


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold the lock of the run in `folder` while inside.

    Raises:
        BusyError: another process is doing this run.
    """
    if not first_process():  # the first process of a run holds it for all
        yield
        return
    lock = FileLock(folder / NAME, timeout=WAIT_SECONDS)
    try:
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _acquire(lock, folder.name)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError | NotADirectoryError | IsADirectoryError | PermissionError):
            raise UserError(
                f"output_dir: {error.__cause__.filename} is in the way ({error.__cause__.strerror}); a folder "
                f"belongs there: move it away, or choose another, output_dir=DIR"
            ) from None
        raise
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, run_id: str) -> None:
    try:
        lock.acquire()
    except Timeout:  # an OSError, but not of the disk
        raise BusyError(f"{run_id}: another process is doing this run; wait for it, or change a setting") from None


def held_locks(output_dir: Path) -> set[str]:
    """Names of the runs that a living process is doing."""
    return {path.parent.name for path in output_dir.glob(f"*/{NAME}") if is_held(path)}


def is_held(path: Path) -> bool:
    """Whether another process holds a lock file."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
