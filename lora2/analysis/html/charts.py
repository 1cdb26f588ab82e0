"""A chart of the page: Vega-Lite specs written once, and for each choice of its selects the data that fills them.

In a spec a text that begins with "@" is a blank. The page fills "@name" from the view's words and "@--name" with that
colour of style.css, so that a chart follows the theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Spec = dict[str, Any]
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Select:
    """One menu above the chart: its label, and the titles of its options by value."""

    label: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plot:
    """The data of one spec in one view; without rows the caption stands alone."""

    caption: str
    rows: Sequence[Line]
    words: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart; `views` are keyed by the values of the selects, joined by "|", and have one plot for each spec."""

    name: str
    description: str
    selects: tuple[Select, ...]
    specs: tuple[Spec, ...]
    views: Mapping[str, tuple[Plot, ...]]

    def data(self) -> dict[str, Any]:
        """Return what the page's script needs, as JSON."""
        views = {key: [asdict(plot) for plot in view] for key, view in self.views.items()}
        return {"specs": self.specs, "views": views}


def spec(height: int | str, **parts: Any) -> Spec:
    """Make a spec as wide as its place in the page; the height in pixels, or a blank."""
    return {"width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"}, **parts}


def axis(field_name: str, kind: str, **more: Any) -> Spec:
    """Make one encoding channel of the type `kind`: quantitative, nominal or ordinal."""
    return {"field": field_name, "type": kind, **more}


def legend_below(**more: Any) -> Spec:
    """Give each method a colour, named below the chart; clicking a name leaves the others pale."""
    return axis("method", "nominal", legend={"orient": "bottom", "columns": "@columns", "title": None}, **more)


READING = "Point at a mark to read it, at a name below to see it alone; colours recur after ten names."
HIGHLIGHT = {"name": "pick", "select": {"type": "point", "fields": ["method"]}, "bind": "legend"}
PALE = {"condition": {"param": "pick", "value": 0.9}, "value": 0.12}
