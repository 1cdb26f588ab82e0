"""Put the percentage of lines of lora2/ and scripts/ that the last `make test` ran into results/faults.json."""

import subprocess
import sys
from pathlib import Path

from figures import merge_figures

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit code: 0 done, 1 there is no `make test` to tell of."""
    command = [sys.executable, "-m", "coverage", "report", "--format=total", "--precision=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{done.stdout.strip()} run `make test` first", file=sys.stderr)
        return 1
    share = float(done.stdout)
    merge_figures(ROOT / "results" / "faults.json", {"coverage": share})
    print(f"coverage: {share} % of lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
