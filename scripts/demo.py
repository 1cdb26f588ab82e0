"""The demonstration: a few short runs on synthetic data with real MiniLM weights, then their table."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "outputs/demo"  # apart from results/, which holds the runs worth keeping
TASKS = ("sst2", "stsb")
RUNS = (("method=head",), ("method=lora2", "rank=k1"), ("method=lora2", "rank=k8"))


def main() -> int:
    """Train every run that is not finished and print the table; exit code of the first failure."""
    for task in TASKS:
        for overrides in RUNS:
            command = [sys.executable, "scripts/train.py", "model=minilm", f"task={task}", "recipe=demo", *overrides]
            done = subprocess.run([*command, f"results_dir={RESULTS}", "experiment=demo"], cwd=ROOT, check=False)
            if done.returncode:
                return done.returncode
    return subprocess.run([sys.executable, "scripts/tables.py", "--results", RESULTS], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
