"""A chart of the page: Vega-Lite specs written once, and for each choice of its selects the data that fills them.

In a spec a text that begins with "@" is a blank. The page fills "@name" from the view's words and "@--name" with that
colour of the page's style, so that a chart follows the theme; a word may hold blanks of colours itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lora2.analysis.methods import ALL_STYLES, mark_of, style_name, style_place

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


def by_method(channel: str, *, named: bool = True) -> Spec:
    """Give each method of a view its colour or its mark.

    Args:
        channel: "colours" or "marks" of `method_words`.
        named: whether the names stand below, and a click on one leaves the others pale.
    """
    legend = {"orient": "bottom", "title": None} if named else None
    return axis("method", "nominal", scale={"domain": "@methods", "range": f"@{channel}"}, legend=legend)


def method_words(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the words of a view whose methods are told apart by colour and mark.

    Args:
        labels: the variant by the name that the view shows it under.
    """
    ordered = sorted(labels, key=lambda label: (style_place(labels[label]), label))
    return {
        "methods": ordered,
        "colours": [colour_of(labels[label]) for label in ordered],
        "marks": [mark_of(labels[label]).path for label in ordered],
    }


def colour_of(variant: str) -> str:
    """Name a variant's colour for the page, which has one for each theme."""
    return f"@--m-{style_name(variant)}"


def method_colours() -> str:
    """Write every method's colours as custom properties, for the page's style."""
    each = (f"  --m-{name}: light-dark({style.light}, {style.dark});" for name, style in ALL_STYLES.items())
    return "\n".join([":root {", *each, "}", ""])


READING = "Point at a mark to read it, at a name below to see it alone."
HIGHLIGHT = {"name": "pick", "select": {"type": "point", "fields": ["method"]}, "bind": "legend"}
PALE = {"condition": {"param": "pick", "value": 0.9}, "value": 0.12}
