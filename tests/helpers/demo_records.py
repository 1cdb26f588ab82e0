"""Keep the records of `make demo` for tests/end_to_end/test_demo.py, without their long histories.

python tests/helpers/demo_records.py outputs/demo
"""

import json
import sys
from pathlib import Path

SEEN = Path(__file__).resolve().parents[1] / "end_to_end" / "demo_runs"


def keep(results: Path) -> None:
    """Replace the kept records by those of a results folder."""
    for path in SEEN.glob("*.json"):
        path.unlink()
    SEEN.mkdir(exist_ok=True)
    for path in sorted((results / "runs").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        record["history"] = {}
        (SEEN / path.name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
