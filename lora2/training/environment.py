"""What a run needs of the machine and the shell it is started in; checked before torch is imported."""

import importlib.util
import os

from lora2.common.errors import UserError

COUNTERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # as torchrun sets them


def check_environment(tracker: str) -> None:
    """Refuse what would end in a traceback later, or in a run that is not tracked though it was asked for.

    Raises:
        UserError: names the variable or the missing package.
    """
    for name in COUNTERS:
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise UserError(
                f"{name}: got {value!r} in the environment; allowed are whole numbers, as torchrun sets them: "
                f"unset {name}, or start with torchrun"
            )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"MASTER_ADDR: not in the environment, though WORLD_SIZE={world}; allowed are both or neither: start with "
            f"torchrun --nproc-per-node {world} scripts/train.py ..., or unset WORLD_SIZE"
        )
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise UserError(
            f"tracker: {tracker} is not installed; allowed are installed ones: pip install -c constraints.txt "
            f"{tracker}, or tracker=none"
        )
