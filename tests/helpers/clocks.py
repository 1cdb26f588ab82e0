"""What two records of one configuration must share."""

from typing import Any

from lora2.runs.record import RunRecord

CLOCKS = ("timing", "provenance", "memory")  # what may differ between two runs of one config on one machine


def without_clocks(record: RunRecord) -> dict[str, Any]:
    """What two runs of one config on one machine must share, bit for bit."""
    return record.model_dump(mode="json", exclude=set(CLOCKS))
