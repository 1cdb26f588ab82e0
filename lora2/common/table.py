"""A table before it is text, in whatever format: rendering.py and screen.py make it that."""

from __future__ import annotations

from dataclasses import dataclass

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """Hold one section: a table, with sentences above it and footnotes below.

    Attributes:
        title: of the section.
        header: names of the columns.
        rows: each with as many cells as `header`; MISSING stands for a number that is not there.
        sentences: paragraphs above the table.
        footnotes: a list below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()
