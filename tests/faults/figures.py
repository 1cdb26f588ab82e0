"""The figures of the fault tests, in one JSON file that several scripts write to."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock


def merge_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Put `figures` over those in the file, key by key; another process sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with FileLock(lock):
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({**known, **figures}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(path)
    lock.unlink(missing_ok=True)
