"""The form in which stock libraries can load what a method trained. Needs no torch."""

from collections.abc import Mapping
from typing import Literal

# A low-rank update is a LoRA adapter, exactly; the others train a part of the model's own weights.
FORMS: Mapping[str, Literal["lora", "whole"]] = {
    "lora2": "lora",
    "lora": "lora",
    "adalora": "lora",
    "sora": "lora",
    "full": "whole",
    "bitfit": "whole",
    "head": "whole",
}
