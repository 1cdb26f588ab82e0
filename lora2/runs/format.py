"""What the writer and the reader of a record agree on. Needs neither torch nor pydantic."""

from typing import Literal, get_args

SCHEMA_VERSION: Literal[1] = 1
Status = Literal["ok", "failed", "oom", "cancelled", "timed"]
STATUSES: tuple[Status, ...] = get_args(Status)
RESULTS: tuple[Status, ...] = ("ok", "timed")  # what a table may show; a timing has no metrics
Checkpoint = Literal["best", "last"]
