"""How the ranks of all matrices ran over training, as a heat map: a row for each matrix, a column for each look at it.

Legend: n = matrices, t = looks (history.monitor of a record).
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np

from lora2.core import keys


def draw_rank_course(monitor: Sequence[Mapping[str, float]]) -> bytes | None:
    """Return a PNG of (n, t) cells; None for a method without ranks."""
    looks = [look for look in monitor if any(key.startswith(keys.RANK) for key in look)]
    if not looks:
        return None
    names = sorted((key for key in looks[0] if key.startswith(keys.RANK)), key=_in_order)
    ranks = np.array([[look[name] for look in looks] for name in names])  # (n, t)
    from matplotlib.figure import Figure  # not pyplot: nothing is shown, and no state is left behind

    figure = Figure(figsize=(10.0, 1.5 + 0.16 * len(names)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(ranks, cmap="Blues", vmin=0.0, aspect="auto", interpolation="nearest")
    marks = np.unique(np.linspace(0, len(looks) - 1, 8).astype(int))
    axes.set_xticks(marks, [f"{looks[mark][keys.STEP]:.0f}" for mark in marks])
    axes.set_yticks(range(len(names)), [name.removeprefix(keys.RANK) for name in names], fontsize=7)
    axes.set(xlabel="optimizer step", title="Singular values kept in each matrix")
    figure.colorbar(image, ax=axes, label="rank", shrink=0.6)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _in_order(name: str) -> tuple[str | int, ...]:
    """Return the key that sorts layer.2 before layer.10."""
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))
