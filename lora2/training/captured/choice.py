"""Whether the steps of a run are captured, and what is in the way where they are not."""

from typing import Literal

from accelerate import Accelerator

StepKind = Literal["auto", "eager", "captured"]


def captures(kind: StepKind, accelerator: Accelerator) -> bool:
    """Return whether the steps of a run are captured.

    Args:
        kind: the setting; "auto" captures where it can be done, and so does "captured", with a note where it cannot.
        accelerator: of the run.
    """
    return kind != "eager" and _obstacle(accelerator) is None


def capture_notes(kind: StepKind, accelerator: Accelerator) -> list[str]:
    """Return a note for the record where steps are eager though a captured step could be expected; else nothing."""
    found = _obstacle(accelerator)
    expected = kind == "captured" or (kind == "auto" and accelerator.device.type == "cuda")
    return [f"step={kind}: the steps were not captured, because {found}"] if expected and found else []


def _obstacle(accelerator: Accelerator) -> str | None:
    """What keeps steps from being captured, if anything."""
    if accelerator.device.type != "cuda":
        return "there is no GPU"
    if accelerator.scaler is not None:
        return "fp16 reads its loss scale in every step"
    if accelerator.num_processes > 1:
        return "the run has several processes"
    return None
