"""results/faults.json as a table in docs/RESULTS.md: `python tests/faults/results.py`."""

import json
import sys
from pathlib import Path
from typing import Any

from lora2.common.rendering import render, write_block
from lora2.common.table import Table

ROOT = Path(__file__).resolve().parents[2]
MEANING = {
    "bad_inputs": "bad inputs answered by one clear message, exit code 2, no traceback",
    "kill9": "kill -9 at random moments; the resumed run's record is the undisturbed one's, bit for bit without clocks",
    "ddp_end": "ends of a run on two processes without a hang or an abort",
    "full_disk": "writes onto a full disk: one clear message, exit code 1, no half record",
    "mutants": "faults planted in the core that turn a test red",
    "coverage": "percent of the lines of lora2/ and scripts/ that the fast tests run",
}


def table(figures: dict[str, Any]) -> Table:
    """A row for each kind of fault that was tried."""
    rows = tuple((MEANING.get(key, key), _shown(figures[key])) for key in [*MEANING, *figures] if key in figures)
    return Table("Faults tried", ("what", "figures"), tuple(dict.fromkeys(rows)))


def _shown(value: Any) -> str:
    """How many were tried, then what came of them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(value[key])}" for key in sorted(value, key=lambda key: (key != "tried", key)))
    return " and ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def main() -> int:
    """Replace the block."""
    page = ROOT / "docs" / "RESULTS.md"
    figures = json.loads((ROOT / "results" / "faults.json").read_text(encoding="utf-8"))
    write_block(page, "faults", render([table(figures)], "markdown"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
