"""What the benchmark's tables say about its figures; without torch, so that the report can read them."""

from collections.abc import Mapping
from typing import Any

LABELS = {
    "ours": "LoRA² (ours)", "ours_plain": "… plain path", "ours_fused": "… fused path",
    "ours_full_score": "… full score (eq. 8)", "naive": "LoRA² as released", "peft_adalora": "AdaLoRA (PEFT)",
    "peft_lora": "LoRA r=8 (PEFT)", "bitfit": "BitFit", "full": "full fine-tuning", "head": "head only",
}  # fmt: skip


def rounds_text(result: Mapping[str, Any]) -> str:
    """How many rounds the medians are over: "10", or "6 to 10" where shapes or types differ."""
    counts = sorted({count for by_dtype in result["rounds"].values() for count in by_dtype.values()})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
