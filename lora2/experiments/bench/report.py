"""From measurements to results/bench: one JSON, a markdown table, a plot."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lora2.common.provenance import cpu_name, provenance
from lora2.core.bf16 import needs_emulation
from lora2.experiments.bench.floor import adapter_floor
from lora2.experiments.bench.labels import LABELS, rounds_text
from lora2.experiments.bench.measure import METHOD_PHASES, Timed, best_device, interleaved, memory_in_own_process, ratio
from lora2.experiments.bench.peers import PEERS, SHAPES
from lora2.experiments.bench.targets import targets_table

Tell = Callable[[str], None]
Nested = dict[str, dict[str, dict[str, Any]]]  # [shape][dtype][peer]


COLUMNS = 3  # of panels in the plot
EMPTY: dict[str, Any] = {"machine": {"device": "–", "threads": 0}, "bf16_emulated": False} | {
    key: {}
    for key in ("rounds", "ratios", "spread", "phases", "to_bitfit", "method_share", "peak_bytes", "memory_ratios")
}


def collect(
    shapes: Sequence[str], dtypes: Sequence[str], peers: Sequence[str], rounds: int, tell: Tell
) -> dict[str, Any]:
    """Time everything; the keys `ratios` and `method_share` compare ours with each peer."""
    device = best_device()
    out: dict[str, Any] = {
        "machine": {"device": _device_name(device), "threads": torch.get_num_threads()},
        "provenance": provenance(_device_name(device)),
        "bf16_emulated": needs_emulation(device),
        **{key: _tree() for key in ("rounds", "ratios", "spread", "phases", "to_bitfit")},
        "method_share": _tree(),
        "floor_to_bitfit": {},
    }
    for shape in shapes:
        for dtype in dtypes:
            part = partial(_say, tell, shape)
            timed = interleaved({p: PEERS[p] for p in peers}, SHAPES[shape], dtype, rounds, device, part)
            _add_times(out, shape, dtype, timed)
            out["rounds"][shape][dtype] = rounds
            if dtype == "fp32" and "bitfit" in timed:
                extra, bitfit = adapter_floor(SHAPES[shape], rounds, device), median(timed["bitfit"].seconds)
                out["floor_to_bitfit"][shape] = (bitfit + extra) / bitfit
    return json.loads(json.dumps(out))  # type: ignore[no-any-return]  # plain dicts


def collect_memory(shapes: Sequence[str], dtypes: Sequence[str], peers: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Peak bytes of each method in a process of its own; `memory_ratios` compares ours with each peer."""
    peaks: Nested = _tree()
    for shape in shapes:
        for dtype in dtypes:
            peaks[shape][dtype] = {}
            for peer in peers:
                tell(f"{shape} {dtype} memory of {peer}")
                peaks[shape][dtype][peer] = memory_in_own_process(peer, shape, dtype)
    ratios = {
        shape: {dtype: {p: each["ours"] / each[p] for p in each if p != "ours"} for dtype, each in by_dtype.items()}
        for shape, by_dtype in peaks.items()
    }
    return {"peak_bytes": dict(peaks), "memory_ratios": ratios}


def _say(tell: Tell, shape: str, text: str) -> None:
    tell(f"{shape} {text}")


def _add_times(out: dict[str, Any], shape: str, dtype: str, timed: Mapping[str, Timed]) -> None:
    seconds = {peer: values.seconds for peer, values in timed.items()}
    spread = {peer: ratio(seconds["ours"], each) for peer, each in seconds.items() if peer != "ours"}
    out["spread"][shape][dtype] = spread
    out["ratios"][shape][dtype] = {peer: each["median"] for peer, each in spread.items()}
    out["phases"][shape][dtype] = {peer: values.phases for peer, values in timed.items()}
    if "bitfit" in seconds:
        out["to_bitfit"][shape][dtype] = {p: ratio(each, seconds["bitfit"])["median"] for p, each in seconds.items()}
    ours = timed["ours"].phases
    out["method_share"][shape][dtype] = sum(ours[phase] for phase in METHOD_PHASES) / sum(ours.values())


def write_steps(part: Mapping[str, Any], path: Path) -> None:
    """latest.json, latest.md and latest.png in one folder; what `part` does not hold stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    result = _over({**EMPTY, **before}, part)
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(result) + "\n" + targets_table(result))
    if result["to_bitfit"]:
        plot(result, path.with_suffix(".png"))


def _over(before: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """`part` over `before`, key by key; of a figure by shape and type, only the shapes and types that were measured."""
    merged = {**before, **part}
    for key in (*EMPTY, "floor_to_bitfit"):
        if isinstance(merged.get(key), dict) and key != "machine":
            old, new = before.get(key, {}), part.get(key, {})
            merged[key] = {shape: _both(old.get(shape), new.get(shape)) for shape in [*old, *(new.keys() - old.keys())]}
    return merged


def _both(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **new}
    return old if new is None else new


def results_block(folder: Path) -> str:
    """docs/RESULTS.md's section, from what lies in results/bench."""
    parts = [(folder / "latest.md").read_text()] if (folder / "latest.md").exists() else ["Not run."]
    if (folder / "padding.json").exists():
        parts.append(padding_table(json.loads((folder / "padding.json").read_text())))
    if (folder / "growth.json").exists():
        parts.append(growth_table(json.loads((folder / "growth.json").read_text())))
    return "\n".join(parts)


def padding_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Padding over the authors' recipe, and evaluation's share."""
    lines = [
        "### Padding, over the authors' recipe (MiniLM, LoRA² k=8)",
        "",
        "Released: every batch padded to the recipe's length, in random order. Ours: batches of like length, padded to "
        "their longest. Seconds are means over interleaved steps of the same run. Floor of evaluation's share: one "
        "forward pass for each dev example, three for each training example in between, all of one length.",
        "",
        "| task | length | positions per epoch, released / ours | ratio | seconds per step, released / ours | ratio "
        "| evaluation every | evaluation's share of our run | its floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        positions, seconds = row["positions_per_epoch"], row["seconds_per_step"]
        lines.append(
            f"| {row['task']} ({row['data']}) | {row['max_length']} "
            f"| {positions['released']:,} / {positions['ours']:,} | {row['positions_ratio']:.2f} "
            f"| {seconds['released']:.2f} / {seconds['ours']:.2f} "
            f"| {row['time_ratio']:.2f} | {row['eval_every']} steps | {row['eval_share']:.1%} "
            f"| {row['eval_floor']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def growth_table(result: Mapping[str, Any]) -> str:
    """One line an axis: value and ratio to BitFit."""
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


def markdown(result: Mapping[str, Any]) -> str:
    """The table: a row a peer, ours / peer with the quartiles of the rounds, and what each costs against BitFit."""
    lines = [
        f"Median over {rounds_text(result)} interleaved rounds of (our step / the peer's step), quartiles in brackets; "
        f"a step is everything: forward, backward, regulariser, importance, allocation, optimizer. "
        f"{result['machine']['device']}, {result['machine']['threads']} threads"
        + ("; bf16 emulated (docs/METHOD.md)" if result["bf16_emulated"] else "")
        + ".",
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


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Bars: each method's step over BitFit's, a panel for each shape and type."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = [(shape, dtype) for shape, by in result["to_bitfit"].items() for dtype in by]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.6 * rows), squeeze=False)
    for unused in axes.flat[len(panels) :]:
        unused.set_axis_off()
    for axis, (shape, dtype) in zip(axes.flat, panels, strict=False):
        values = dict(sorted(result["to_bitfit"][shape][dtype].items(), key=lambda item: item[1]))
        colors = ["#c44e52" if peer == "ours" else "#4c72b0" for peer in values]
        bars = axis.barh([LABELS[peer] for peer in values], list(values.values()), color=colors)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{shape}, {dtype}", fontsize=10)
        axis.set_xlabel("step time / BitFit's")
        axis.set_xlim(0, 1.18 * max(values.values()))
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _tree() -> Nested:
    return defaultdict(dict)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
