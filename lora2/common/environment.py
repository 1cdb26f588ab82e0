"""Which of the processes of a distributed program this one is."""

import os


def first_process() -> bool:
    """Whether this is the one process that writes and speaks."""
    rank = os.environ.get("RANK", "0")
    return not rank.isdecimal() or int(rank) == 0  # a wrong RANK is refused later, and that must be heard
