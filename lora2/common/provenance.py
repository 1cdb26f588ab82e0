"""Where a result came from: commit, uncommitted changes, versions, machine. No environment variables."""

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
ROOT = Path(__file__).resolve().parents[2]


def provenance(device: str) -> dict[str, Any]:
    """Commit, hash of the uncommitted diff (None when clean), package versions, device, Python, platform, date."""
    diff = _git("diff", "HEAD", "--", "lora2", "scripts", "configs")
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "dirty_diff": hashlib.sha256(diff.encode()).hexdigest()[:16] if diff else None,
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_name() -> str:
    """The processor's model name and number of cores in use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
