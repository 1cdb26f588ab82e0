"""How a run tells the process that started it why it failed: by a file that the other one names."""

import os
from pathlib import Path

REASON = "LORA2_REASON"  # the environment variable that names the file


def give_reason(text: str) -> None:
    """Tell the process that started this one, if it asked for it, why this one fails."""
    if path := os.environ.get(REASON):
        Path(path).write_text(text, encoding="utf-8")
