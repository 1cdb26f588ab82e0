"""Make every bad input of the table and put how many were answered clearly into results/faults.json."""

import json
import subprocess
import sys
from pathlib import Path

from figures import merge_figures

ROOT = Path(__file__).resolve().parents[2]
ATTEMPT = ROOT / "tests" / "bad_inputs" / "attempt.py"


def main() -> int:
    """1 if an answer was not clear; the tests say which."""
    done = subprocess.run([sys.executable, str(ATTEMPT)], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    figures = {"tried": found["tried"], "clear": found["clear"]}
    merge_figures(ROOT / "results" / "faults.json", {"bad_inputs": figures})
    print(f"bad inputs: {figures['tried']} tried, {figures['clear']} answered clearly")
    return int(figures["tried"] != figures["clear"])


if __name__ == "__main__":
    sys.exit(main())
