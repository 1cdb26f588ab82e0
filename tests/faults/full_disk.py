"""Run on disks that are too small by more or less, then make room and run again.

    sudo python tests/faults/full_disk.py [--sizes 12]

The disk is a tmpfs, so this needs root. A run that does not fit must end with exit code 1 and one message, and leave
either no record or a whole one; with room, the same command must end in the record of a run that was never short of
it. Figures: results/faults.json, "full_disk".
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import Progress, left_behind, options, record
from figures import merge_figures
from starter import Starter

SETTINGS = (
    "model=tiny", "data=demo", "task=rte", "rank=k1", "recipe.precision=fp32", "recipe.batch_size=8",
    "recipe.max_steps=40", "recipe.eval_every=10", "checkpoint.every_steps=5",
)  # fmt: skip
DISK = 64 * 2**20  # far more than a run needs


@contextmanager
def disk() -> Iterator[Path]:
    """A file system of its own, of DISK bytes."""
    folder = Path(tempfile.mkdtemp(prefix="lora2-full-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "lora2", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def fill(folder: Path, room: int) -> Path:
    """Take all of the disk but `room` bytes; returns the file that does."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        for _ in range((shutil.disk_usage(folder).free - room) // 4096):
            file.write(bytes(4096))
    return filler


def attempt(starter: Starter, room: int, log: Path, expected: dict[str, object]) -> dict[str, bool]:
    """A run with so much room, and another with all of it; what was as it must be."""
    with disk() as mounted:
        filler, folder = fill(mounted, room), mounted / "run"
        code = do(starter, folder, log)
        said, found = log.read_text(), record(folder)  # which fails for half a record
        clear = code == 1 and "Traceback" not in said and said.count("No space left on device") == 1
        told = found is None or found.status == "failed"
        whole = not list(folder.rglob("*.tmp"))
        filler.unlink()
        resumed = do(starter, folder, log) == 0 and left_behind(folder) == expected
    return {"clear": clear, "no_half_record": told and whole, "resumed_identical": resumed}


def do(starter: Starter, folder: Path, log: Path) -> int | None:
    """The run's exit code."""
    return starter.wait(starter.start(SETTINGS, folder, log), 3600)


def main() -> int:
    """Exit code: 0 all as it must be, 1 not."""
    parser = options(__doc__)
    parser.add_argument("--sizes", type=int, default=12, help="of the disk")
    chosen = parser.parse_args()
    home, starter, progress = Path(tempfile.mkdtemp(prefix="lora2-full-disk-logs-")), Starter(), Progress(chosen.sizes)
    with disk() as mounted:
        do(starter, mounted / "run", home / "whole.log")
        expected, needed = left_behind(mounted / "run"), shutil.disk_usage(mounted).used
    tally = {"tried": 0, "clear": 0, "no_half_record": 0, "resumed_identical": 0}
    for index in range(chosen.sizes):
        right = attempt(starter, needed * index // chosen.sizes, home / f"{index}.log", expected)
        tally["tried"] += 1
        for name, is_right in right.items():
            tally[name] += is_right
        progress(", ".join(name for name, is_right in right.items() if not is_right) or "as it must be")
    starter.close()
    merge_figures(chosen.figures, {"full_disk": tally})
    print(f"{tally}; {home}")
    return int(len(set(tally.values())) != 1)


if __name__ == "__main__":
    raise SystemExit(main())
