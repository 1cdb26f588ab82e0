"""How the cost of an adapter grows: our step over BitFit's, one setting varied at a time."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lora2.experiments.bench.measure import interleaved, ratio
from lora2.experiments.bench.peers import PEERS, SHAPES, K, R, Shape, lora2_peer

BASE = SHAPES["minilm_32x64"]
FREE = 0.05  # of a BitFit step: what k may cost above k = 1 and still count as free
AXES: dict[str, tuple[int, ...]] = {
    "k": (1, 4, 8, 16, 32, 64),
    "r": (4, 8, 16, 32),
    "batch": (8, 16, 32),
    "length": (32, 64, 128),
    "layers": (2, 4, 6),
}


def growth(rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return, for each axis and value, the median ratio to BitFit and our seconds per step; and the slope over k.

    The base is measured once for each axis: how far these ratios lie apart is the noise.
    """
    axes = {}
    for axis, values in AXES.items():
        points = []
        for value in values:
            shape, k, r = _point(axis, value)
            peers = {"ours": lora2_peer(k=k, r=r), "bitfit": PEERS["bitfit"]}
            timed = interleaved(peers, shape, "fp32", rounds, lambda text: None)
            ours, bitfit = timed["ours"].seconds, timed["bitfit"].seconds
            seconds = statistics.median(ours)
            points.append({axis: value, "to_bitfit": ratio(ours, bitfit)["median"], "seconds": seconds})
            tell(f"growth over {axis}: {value}")
        axes[axis] = points
    base = {"k": K, "r": R, "batch": BASE.b, "length": BASE.s, "layers": BASE.layers}
    again = [p["to_bitfit"] for axis, points in axes.items() for p in points if p[axis] == base[axis]]
    return {
        "base": "MiniLM, 32 x 64 tokens, k = r = 8, float32",
        "base_measured": again,
        "axes": axes,
        **_slope(axes["k"]),
    }


def _point(axis: str, value: int) -> tuple[Shape, int, int]:
    """Return shape, k and r with one of them changed."""
    changes: dict[str, dict[str, Any]] = {"batch": {"b": value}, "length": {"s": value}, "layers": {"layers": value}}
    return replace(BASE, **changes.get(axis, {})), value if axis == "k" else K, value if axis == "r" else R


def _slope(points: list[dict[str, float]]) -> dict[str, Any]:
    """Return the least-squares growth of the ratio per unit of k, and the k up to which it is free.

    That k is None where the ratio does not grow.
    """
    slope = statistics.linear_regression([p["k"] for p in points], [p["to_bitfit"] for p in points]).slope
    free = int(1 + FREE / slope) if slope > 0 else None
    return {"slope_per_k": slope, "free_up_to_k": free, "free_means": FREE}
