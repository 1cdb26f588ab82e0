"""All measurements of the step benchmark, as one JSON."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lora2.core.bf16 import needs_emulation
from lora2.experiments.bench.floor import adapter_floor
from lora2.experiments.bench.measure import METHOD_PHASES, Timed, best_device, interleaved, memory_in_own_process, ratio
from lora2.experiments.bench.peers import PEERS, SHAPES
from lora2.runs.provenance import cpu_name, provenance

Tell = Callable[[str], None]
Nested = dict[str, dict[str, dict[str, Any]]]  # [shape][dtype][peer]


EMPTY: dict[str, Any] = {"machine": {"device": "–", "threads": 0}, "bf16_emulated": False} | {
    key: {}
    for key in ("rounds", "ratios", "spread", "phases", "to_bitfit", "method_share", "peak_bytes", "memory_ratios")
}


def collect(
    shapes: Sequence[str], dtypes: Sequence[str], peers: Sequence[str], rounds: int, tell: Tell
) -> dict[str, Any]:
    """Time everything, and return it as JSON; `ratios` and `method_share` compare ours with each peer.

    Args:
        shapes, dtypes, peers: names, of SHAPES, of fp32 and bf16, of PEERS.
        rounds: timed steps of every peer.
        tell: is given lines of progress.
    """
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
            timed = interleaved({p: PEERS[p] for p in peers}, SHAPES[shape], dtype, rounds, part)
            _add_times(out, shape, dtype, timed)
            out["rounds"][shape][dtype] = rounds
            if dtype == "fp32" and "bitfit" in timed:
                extra, bitfit = adapter_floor(SHAPES[shape], rounds, device), median(timed["bitfit"].seconds)
                out["floor_to_bitfit"][shape] = (bitfit + extra) / bitfit
    return json.loads(json.dumps(out))  # type: ignore[no-any-return]  # plain dicts


def collect_memory(shapes: Sequence[str], dtypes: Sequence[str], peers: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Return the peak bytes of each method in a process of its own; `memory_ratios` compares ours with each peer."""
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


def write_steps(part: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Put `part` into a JSON file, where what it does not hold stays as it was; returns the whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    result = _merge({**EMPTY, **before}, part)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _merge(before: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Put `part` over `before`, key by key; of a figure by shape and type, only those that were measured."""
    merged = {**before, **part}
    for key in (*EMPTY, "floor_to_bitfit"):
        if isinstance(merged.get(key), dict) and key != "machine":
            old, new = before.get(key, {}), part.get(key, {})
            merged[key] = {
                shape: _merge_types(old.get(shape), new.get(shape)) for shape in [*old, *(new.keys() - old.keys())]
            }
    return merged


def _merge_types(old: Any, new: Any) -> Any:
    """Put the new figures of one shape, by type, over the old ones."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **new}
    return old if new is None else new


def _tree() -> Nested:
    return defaultdict(dict)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
