"""The project's targets for a step, beside what was measured, with the floor of the one that nothing can pass."""

from collections.abc import Mapping
from typing import Any

SHAPES = ("minilm_32x64", "deberta_16x64")
# (what, keys into latest.json after which the shape's entry is found, limit by shape)
TARGETS: tuple[tuple[str, str, tuple[str, ...], tuple[float, float]], ...] = (
    ("ours / LoRA² as released", "ratios", ("fp32", "naive"), (0.50, 0.52)),
    ("ours / AdaLoRA (PEFT)", "ratios", ("fp32", "peft_adalora"), (0.82, 0.93)),
    ("ours / LoRA r=8 (PEFT)", "ratios", ("fp32", "peft_lora"), (0.90, 0.97)),
    ("ours / BitFit", "ratios", ("fp32", "bitfit"), (1.12, 1.06)),
    ("bf16: ours / LoRA r=8 (PEFT)", "ratios", ("bf16", "peft_lora"), (0.95, 0.95)),
    ("memory above the backbone: ours / LoRA r=8 (PEFT)", "memory_ratios", ("fp32", "peft_lora"), (1.00, 1.00)),
    ("regulariser, importance, masks: share of our step", "method_share", ("fp32",), (0.03, 0.03)),
)


def targets_table(result: Mapping[str, Any]) -> str:
    """A row a target: measured, limit, whether it is met; "–" where it was not measured."""
    lines = [
        "### Targets",
        "",
        "| float32 unless said, k = r = 8 | " + " | ".join(SHAPES) + " |",
        "|---|" + "---|" * len(SHAPES),
    ]
    for label, key, path, limits in TARGETS:
        cells = []
        for shape, limit in zip(SHAPES, limits, strict=True):
            entry = _at(result.get(key, {}).get(shape), path)
            floor = _floor(result, shape, path[-1]) if key == "ratios" and path[0] == "fp32" else None
            cells.append(_cell(entry, limit, floor))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Floors, in brackets, are measured with the same spread as the ratios (the quartiles above). The floor adds to "
        "BitFit's step only the products behind the adapter's gradients and the writing of W + ΔW, timed one by one, "
        "and takes BitFit's bias sums off: no autograd, no regulariser, no optimizer.",
    ]
    return "\n".join(lines) + "\n"


def _at(entry: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        entry = None if entry is None else entry.get(key)
    return entry


def _cell(entry: float | None, limit: float, floor: float | None) -> str:
    if entry is None:
        return "–"
    least = "" if floor is None else f" [{floor:.3f}]"
    return f"{entry:.3f} ≤ {limit:.2f}{least}" if entry <= limit else f"**{entry:.3f} > {limit:.2f}, missed**{least}"


def _floor(result: Mapping[str, Any], shape: str, peer: str) -> float | None:
    """The least that ours / peer could be: the floor over BitFit, over what the peer takes over BitFit."""
    floor, peer_cost = (
        result.get("floor_to_bitfit", {}).get(shape),
        _at(result.get("to_bitfit", {}).get(shape), ("fp32", peer)),
    )
    return None if floor is None or peer_cost is None else floor / peer_cost
