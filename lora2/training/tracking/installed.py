"""Whether the tracker that a run asks for is there; known before torch is imported."""

import importlib.util

from lora2.common.errors import UserError


def check_installed(tracker: str) -> None:
    """Refuse a run that would not be tracked though it was asked for.

    Raises:
        UserError: names the missing package.
    """
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise UserError(
            f"tracker: {tracker} is not installed; allowed are installed ones: pip install -c constraints.txt "
            f"{tracker}, or tracker=none"
        )
