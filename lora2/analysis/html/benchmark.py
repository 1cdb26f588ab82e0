"""The step benchmark: our step over each peer's, as a chart and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora2.analysis.benchmark import VARIANTS, machine_text, peer_name, rounds_text
from lora2.analysis.html.charts import Chart, Line, Plot, Select, Spec, axis, by_method, method_words, spec
from lora2.analysis.html.html_table import Column, HtmlCell, HtmlRow, HtmlTable, text_cell
from lora2.common.errors import UserError
from lora2.common.table import MISSING

Result = Mapping[str, Any]


def read_benchmark(path: Path) -> Result | None:
    """Read results/bench/latest.json.

    Returns:
        The result; None before the first benchmark.

    Raises:
        UserError: what is drawn of it cannot be drawn.
    """
    if not path.exists():
        return None
    try:
        result: Result = json.loads(path.read_text(encoding="utf-8"))
        ratio_table(result)
        ratio_chart(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a benchmark's result ({error!r}); run `make bench` again") from error
    return result


def ratio_table(result: Result) -> HtmlTable:
    """Write one line for each shape, number type and peer."""
    rows = []
    for shape, kind, peers in _measured(result):
        to_bitfit = result["to_bitfit"].get(shape, {}).get(kind, {})
        memory = result["memory_ratios"].get(shape, {}).get(kind, {})
        for peer, spread in peers.items():
            quartiles = f"{spread['median']:.3f} [{spread['q1']:.3f}, {spread['q3']:.3f}]"
            name = peer_name(peer)
            first = (HtmlCell(text=name, sort=name, variant=VARIANTS[peer]), text_cell(shape), text_cell(kind))
            ratios = (_ratio(to_bitfit.get(peer)), _ratio(memory.get(peer)))
            rows.append(HtmlRow((*first, HtmlCell(text=quartiles, sort=spread["median"]), *ratios)))
    numbers = ("Ours / peer, time", "Peer / BitFit, time", "Ours / peer, memory above the backbone")
    columns = (Column("Peer"), Column("Shape"), Column("Type"), *(Column(title, numeric=True) for title in numbers))
    sentence = (
        f"Median over {rounds_text(result)} interleaved rounds, quartiles in brackets; below 1 ours is cheaper. A step "
        "is everything: forward, backward, regulariser, importance, allocation, optimizer. "
        f"{machine_text(result)}."
    )
    return HtmlTable(
        caption="A whole training step, ours against each peer",
        columns=columns,
        rows=tuple(rows),
        sentences=(sentence,),
        footnotes=_shares(result),
    )


def ratio_chart(result: Result) -> Chart:
    """Draw the same ratios with their quartiles, one view for each shape and number type."""
    options, views = {}, {}
    for shape, kind, peers in _measured(result):
        key = f"{shape}-{kind}"
        options[key] = f"{shape}, {kind}"
        rows: list[Line] = [
            {"method": peer_name(peer), **{name: spread[name] for name in ("median", "q1", "q3")}}
            for peer, spread in peers.items()
        ]
        words = method_words({peer_name(peer): VARIANTS[peer] for peer in peers})
        caption = f"Our step over the peer's, {shape}, {kind}. Left of 1 ours is cheaper. {machine_text(result)}."
        views[key] = (Plot(caption, rows, {**words, "height": 34 * len(rows)}),)
    description = "Dots with quartiles: the time of our step over that of each peer."
    menu = Select("Shape and type", options)
    return Chart(name="bench", description=description, selects=(menu,), specs=(_dots(),), views=views)


def _measured(result: Result) -> list[tuple[str, str, Mapping[str, Mapping[str, float]]]]:
    return [(shape, kind, peers) for shape, kinds in result["spread"].items() for kind, peers in kinds.items()]


def _shares(result: Result) -> tuple[str, ...]:
    return tuple(
        f"{shape}, {kind}: regulariser, importance and masks are {share:.1%} of our step."
        for shape, kinds in result["method_share"].items()
        for kind, share in kinds.items()
    )


def _ratio(value: float | None) -> HtmlCell:
    return HtmlCell(MISSING) if value is None else HtmlCell(text=f"{value:.3f}", sort=value)


def _dots() -> Spec:
    scale = {"zero": False, "padding": 20}
    tooltip = [
        axis("method", "nominal"),
        *(axis(name, "quantitative", format=".3f") for name in ("median", "q1", "q3")),
    ]
    colour, mark = by_method("colours", named=False), by_method("marks", named=False)
    return spec(
        "@height",
        encoding={"y": axis("method", "nominal", sort=None, title=None), "tooltip": tooltip},
        layer=[
            {
                "mark": {"type": "rule", "strokeDash": [4, 4], "color": "@--muted", "aria": False},
                "encoding": {"x": {"datum": 1}, "y": None, "tooltip": None},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.5, "aria": False},
                "encoding": {"x": axis("q1", "quantitative", scale=scale), "x2": {"field": "q3"}, "color": colour},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
                "encoding": {
                    "x": axis("median", "quantitative", scale=scale, title="ours / peer", axis={"labelOverlap": True}),
                    "color": colour,
                    "shape": mark,
                },
            },
        ],
    )
