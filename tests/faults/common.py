"""What the long fault scripts share: their options, progress with the time that is left, what a run leaves behind."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # for helpers; the package itself is installed

from helpers.clocks import without_clocks  # noqa: E402

from lora2.runs.record import RunRecord, read_record  # noqa: E402


def options(description: str) -> argparse.ArgumentParser:
    """With where the figures go, so that a trial can leave the committed ones alone."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--figures", type=Path, default=ROOT / "results" / "faults.json")
    return parser


class Progress:
    """Lines with a count and the time that is left."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._start = total, 0, time.monotonic()

    def __call__(self, text: str) -> None:
        """One more is done."""
        self._done += 1
        left = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        print(f"[{self._done}/{self._total}] {text}; {left / 60:.1f} min left", file=sys.stderr, flush=True)


def record(folder: Path) -> RunRecord | None:
    """The record of the only run in `folder`, None if there is none; anything else there is an error."""
    files = list((folder / "outputs" / "results" / "runs").glob("*"))
    if not files:
        return None
    (file,) = files
    return read_record(file)


def left_behind(folder: Path) -> dict[str, Any]:
    """What a finished run in `folder` left: its record without clocks, its weights as bytes."""
    found = record(folder)
    assert found is not None
    weights = {path.name: path.read_bytes() for path in folder.glob("outputs/*/*.safetensors")}
    return {"record": without_clocks(found), **weights}
