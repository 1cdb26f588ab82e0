"""A table for the page: cells with a text, a value to sort by, a link, and small lines below; the template draws it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Small:
    """A second line of a cell; `tone` is a class of style.css."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class HtmlCell:
    """One cell; a `sort` of None means missing: such a cell stands last in either order.

    `variant` names the method whose mark stands before the text.
    """

    text: str
    sort: float | str | None = None
    href: str = ""
    small: tuple[Small, ...] = ()
    tone: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class HtmlRow:
    """One line; `kind` is a class of style.css: paper, ours or nothing."""

    cells: tuple[HtmlCell, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A header cell, with a second line. A numeric column sorts from the largest value down at first."""

    title: str
    numeric: bool = False
    small: str = ""


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table; sentences stand above it, footnotes below, and `badges` are short warnings beside the caption.

    One that shows nothing that `ran` here is folded.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[HtmlRow, ...]
    sentences: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()
    badges: tuple[str, ...] = ()
    ran: bool = True


def text_cell(text: str) -> HtmlCell:
    """Make a cell that sorts by its text."""
    return HtmlCell(text=text, sort=text)
