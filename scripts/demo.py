"""The demonstration: the runs of configs/experiment/demo.yaml (real MiniLM weights, synthetic data), then the table."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lora2.common.terminal import guarded  # noqa: E402
from lora2.config.grid import expand  # noqa: E402


def main(_: Namespace) -> int:
    """Train every run that is not finished and print the table; exit code of the first failure."""
    jobs = expand("demo")
    for job in jobs:
        code = subprocess.run([sys.executable, "scripts/train.py", *job.overrides], cwd=ROOT, check=False).returncode
        if code:
            return code
    table = [sys.executable, "scripts/tables.py", "--results", jobs[0].cfg.results_dir]
    return subprocess.run(table, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(guarded(main, Namespace()))
