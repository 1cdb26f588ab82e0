"""What a program that torchrun may start needs of its environment; checked before torch is imported."""

import os

from lora2.common.errors import UserError

COUNTERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # as torchrun sets them


def first_process() -> bool:
    """Whether this is the one process of a program that writes and speaks."""
    rank = os.environ.get("RANK", "0")
    return not rank.isdecimal() or int(rank) == 0  # a wrong RANK is refused later, and that must be heard


def check_environment(script: str) -> None:
    """Refuse what would end in a traceback later.

    Args:
        script: the program, as the message on how to start it names it.

    Raises:
        UserError: names the variable.
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
            f"torchrun --nproc-per-node {world} {script} ..., or unset WORLD_SIZE"
        )
