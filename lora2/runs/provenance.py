"""Where a result came from: commit, uncommitted changes, versions, machine. No environment variables."""

import functools
import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "evaluate",
    "peft",
    "safetensors",
    "numpy",
    "scikit-learn",
    "scipy",
)
HERE = Path(__file__).resolve().parent  # git finds the checkout that this folder is in, if it is in one
SOURCES = (":/lora2", ":/scripts", ":/configs")  # from the top of the checkout: what can change a run


def provenance(device: str) -> dict[str, Any]:
    """Tell where a result comes from.

    Args:
        device: the name of the device that made it.

    Returns:
        The commit, a hash of the uncommitted diff (None when clean), package versions, device, Python, platform, date.
    """
    return {
        **sources(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def sources() -> dict[str, str | None]:
    """Tell the commit and a hash of the uncommitted diff, as they were when this process first asked.

    A process that does many runs has its code in memory, whatever is committed meanwhile.
    """
    diff = _git("diff", "HEAD", "--", *SOURCES)
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "dirty_diff": hashlib.sha256(diff.encode()).hexdigest()[:16] if diff else None,
    }


def cpu_name() -> str:
    """Name the processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(HERE), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
