"""The benchmark's figures (results/bench/*.json) as tables and a plot: ours beside each peer, thresholds and floors."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora2.analysis.gpu_benchmark import gpu_table
from lora2.analysis.methods import ALL_STYLES, mark_of, style_name

LABELS = {
    "ours": "LoRA² (ours)", "ours_plain": "… plain path", "ours_fused": "… fused path",
    "ours_full_score": "… full score (eq. 8)", "naive": "LoRA² as released",
    "adalora": "AdaLoRA (ours)", "peft_adalora": "AdaLoRA (PEFT)",
    "peft_lora": "LoRA r=8 (PEFT)", "bitfit": "BitFit", "full": "full fine-tuning", "head": "head only",
}  # fmt: skip
VARIANTS = {  # the method whose colour and mark a contender has
    "ours": "lora2_k8", "ours_plain": "lora2_k8_plain", "ours_fused": "lora2_k8_fused",
    "ours_full_score": "lora2_k8_score-full", "naive": "lora2_released", "adalora": "adalora_r8",
    "peft_adalora": "adalora_r8", "peft_lora": "lora_r8", "bitfit": "bitfit", "full": "full", "head": "head",
}  # fmt: skip
COLUMNS = 3  # of panels in the plot
SHAPES = ("minilm_32x64", "deberta_16x64")
# Targets set in this project's issue 4, "Make it the cheapest way to fine-tune on GLUE"; none is a published figure.
# (what, keys into latest.json after which the shape's entry is found, limit by shape)
THRESHOLDS: tuple[tuple[str, str, tuple[str, ...], tuple[float, float]], ...] = (
    ("ours / LoRA² as released", "ratios", ("fp32", "naive"), (0.50, 0.52)),
    ("ours / AdaLoRA (PEFT)", "ratios", ("fp32", "peft_adalora"), (0.82, 0.93)),
    ("ours / LoRA r=8 (PEFT)", "ratios", ("fp32", "peft_lora"), (0.90, 0.97)),
    ("ours / BitFit", "ratios", ("fp32", "bitfit"), (1.12, 1.06)),
    ("bf16: ours / LoRA r=8 (PEFT)", "ratios", ("bf16", "peft_lora"), (0.95, 0.95)),
    ("memory above the backbone: ours / LoRA r=8 (PEFT)", "memory_ratios", ("fp32", "peft_lora"), (1.00, 1.00)),
    ("regulariser, importance, masks: share of our step", "method_share", ("fp32",), (0.03, 0.03)),
)


def results_block(folder: Path) -> str:
    """Write docs/RESULTS.md's section, from what lies in results/bench."""
    parts = [(folder / "latest.md").read_text()] if (folder / "latest.md").exists() else ["Not run."]
    if (folder / "padding.json").exists():
        parts.append(padding_table(json.loads((folder / "padding.json").read_text())))
    if (folder / "growth.json").exists():
        parts.append(growth_table(json.loads((folder / "growth.json").read_text())))
    if (folder / "gpu.json").exists():
        parts.append(gpu_table(json.loads((folder / "gpu.json").read_text())))
    return "\n".join(parts)


def write_tables(result: Mapping[str, Any], path: Path) -> None:
    """Write the step benchmark's tables and plot beside its JSON file `path`."""
    path.with_suffix(".md").write_text(markdown(result) + "\n" + thresholds_table(result))
    if result["spread"]:
        plot(result, path.with_suffix(".png"))


def markdown(result: Mapping[str, Any]) -> str:
    """Write a row for each peer: ours / peer with the quartiles of the rounds, and what it costs against BitFit."""
    lines = [
        f"Median over {rounds_text(result)} interleaved rounds of (our step / the peer's step), quartiles in brackets; "
        f"a step is everything: forward, backward, regulariser, importance, allocation, optimizer. "
        f"{machine_text(result)}" + ("; bf16 emulated (docs/METHOD.md)" if result["bf16_emulated"] else "") + ".",
        "",
        "| shape | type | peer | ours / peer | peer / BitFit | memory above the backbone, ours / peer |",
        "|---|---|---|---|---|---|",
    ]
    for shape, by_dtype in result["spread"].items():
        for dtype, peers in by_dtype.items():
            to_bitfit = result["to_bitfit"].get(shape, {}).get(dtype, {})
            memory = result["memory_ratios"].get(shape, {}).get(dtype, {})
            share = result["method_share"][shape][dtype]
            lines.append(
                f"| {shape} | {dtype} | **{LABELS['ours']}** | regulariser, importance, masks: {share:.1%} of a step "
                f"| {_number(to_bitfit.get('ours'))} | |"
            )
            for peer, each in peers.items():
                lines.append(
                    f"| | | {LABELS[peer]} | {each['median']:.3f} [{each['q1']:.3f}, {each['q3']:.3f}] "
                    f"| {_number(to_bitfit.get(peer))} | {_number(memory.get(peer))} |"
                )
    return "\n".join(lines) + "\n"


def thresholds_table(result: Mapping[str, Any]) -> str:
    """Write a row for each threshold: measured, limit, whether it is met; "–" where it was not measured."""
    lines = [
        "### Targets",
        "",
        "Measured ≤ limit. Every limit was set in this project's issue 4 before the benchmark was built, from a first "
        "sketch of a step; none is a published figure.",
        "",
        "| float32 unless said, k = r = 8 | " + " | ".join(SHAPES) + " |",
        "|---|" + "---|" * len(SHAPES),
    ]
    for label, key, path, limits in THRESHOLDS:
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


def padding_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the padding over the authors' recipe, and evaluation's share."""
    lines = [
        "### Padding, over the authors' recipe (MiniLM, LoRA² k=8)",
        "",
        "Released: every batch padded to the recipe's length, in random order. Ours: batches of like length, padded to "
        "their longest. Seconds are means over interleaved steps of the same run. Floor of evaluation's share: one "
        "forward pass for each dev example, three for each training example in between, all of one length.",
        "",
        "| task | length | padded tokens per epoch, released / ours | ratio | seconds per step, released / ours "
        "| ratio | evaluation every | evaluation's share of our run | its floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        padded, seconds = row["padded_tokens_per_epoch"], row["seconds_per_step"]
        lines.append(
            f"| {row['task']} ({row['data']}) | {row['max_length']} "
            f"| {padded['released']:,} / {padded['ours']:,} | {row['padded_tokens_ratio']:.2f} "
            f"| {seconds['released']:.2f} / {seconds['ours']:.2f} "
            f"| {row['time_ratio']:.2f} | {row['eval_every']} steps | {row['eval_share']:.1%} "
            f"| {row['eval_floor']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def growth_table(result: Mapping[str, Any]) -> str:
    """Write one line for each axis: values and ratios to BitFit."""
    free, again = result["free_up_to_k"], result["base_measured"]
    lines = [
        "### How the cost grows",
        "",
        f"Our step over BitFit's, one setting varied at a time from {result['base']}; the base was measured "
        f"{len(again)} times, at {min(again, default=0):.3f} to {max(again, default=0):.3f}: differences within that "
        f"are noise. Slope over k: {result['slope_per_k']:.4f} per unit"
        + (f", so k stops being free (more than {result['free_means']:.0%} above k = 1) at {free}." if free else "."),
        "",
        "| varied | value: ratio to BitFit |",
        "|---|---|",
    ]
    for axis, points in result["axes"].items():
        lines.append(f"| {axis} | " + ", ".join(f"{p[axis]}: {p['to_bitfit']:.3f}" for p in points) + " |")
    return "\n".join(lines) + "\n"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw our step over each peer's with its quartiles, a panel for each shape and type, all on one scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = [(shape, dtype, by) for shape, kinds in result["spread"].items() for dtype, by in kinds.items()]
    order = [peer for peer in LABELS if any(peer in by for _, _, by in panels)]
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (2.0 + 3.2 * columns, 1.2 + (0.8 + 0.25 * len(order)) * rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for unused in axes.flat[len(panels) :]:
        unused.set_axis_off()
    for axis, (shape, dtype, by) in zip(axes.flat, panels, strict=False):
        _draw_ratios(axis, order, by)
        axis.set_title(f"{shape}, {dtype}, {result['rounds'][shape][dtype]} rounds", fontsize=10)
    axes[0, 0].set_yticks(range(len(order)), map(peer_name, order))
    axes[0, 0].set_ylim(len(order) - 0.5, -0.5)
    figure.suptitle("A whole training step: our time over the peer's", fontsize=13)
    figure.supxlabel(
        f"our step / the peer's: median and quartiles, left of 1 ours is cheaper; {machine_text(result)}", fontsize=9
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_ratios(axis: Any, order: Sequence[str], by: Mapping[str, Mapping[str, float]]) -> None:
    """A line from quartile to quartile and a mark at the median, for each peer that was measured."""
    axis.axvline(1, color="0.4", linewidth=0.8, linestyle="--")
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8, axis="both")
    for peer, spread in by.items():
        place, variant = order.index(peer), VARIANTS[peer]
        colour = ALL_STYLES[style_name(variant)].light
        axis.plot((spread["q1"], spread["q3"]), (place, place), color=colour, linewidth=2.5, alpha=0.5)
        axis.plot(spread["median"], place, mark_of(variant).matplotlib, color=colour, markersize=6)
        axis.annotate(
            f"{spread['median']:.2f}", (spread["median"], place), xytext=(0, 5), textcoords="offset points",
            ha="center", fontsize=7,
        )  # fmt: skip


def machine_text(result: Mapping[str, Any]) -> str:
    """Say on what it was measured."""
    return f"{result['machine']['device']}, {result['machine']['threads']} threads"


def rounds_text(result: Mapping[str, Any]) -> str:
    """Say how many rounds the medians are over: "10", or "6 to 10" where shapes or types differ."""
    counts = sorted({count for by_dtype in result["rounds"].values() for count in by_dtype.values()})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"


def peer_name(peer: str) -> str:
    """Name a contender where it does not stand below the one that it is a variant of."""
    return LABELS[peer].replace("… ", "LoRA² (ours), ")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
