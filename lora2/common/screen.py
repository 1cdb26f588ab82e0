"""Tables for a screen: aligned columns that fit its width, by rich, which is imported when a table is drawn."""

from __future__ import annotations

import io
import re
import shutil
import textwrap
from collections.abc import Sequence

from lora2.common.table import Table

# What is aligned to the right: 1,234 and 0.17M, 69.85 / 81.83 ± 0.41 (n=3) ‡, 12 to 24.
NUMBER = re.compile(r"[-−+]?\d[-−+\d.,/ %±]*( to [\d.,]+)?[kMhs]?( ?\(n=\d+\))?( ‡)?|–|")
GAP = 2  # between two columns: a space of padding, and one that the box draws
WHOLE = 20  # a cell that is no longer stays on one line
WORD = 30  # a longer word may be broken


def to_screen(tables: Sequence[Table], width: int | None = None) -> str:
    """Lay out all sections for a screen.

    Args:
        tables: the sections.
        width: columns of the screen; None asks the terminal.
    """
    columns = width or shutil.get_terminal_size().columns
    return "\n".join(_section(table, columns) for table in tables)


def _section(table: Table, width: int) -> str:
    parts = [_wrapped(table.title, width), *(_wrapped(sentence, width) for sentence in table.sentences)]
    if table.rows:
        parts += [_grid(table, columns, width) for columns in _blocks(table, width)]
    if table.footnotes:
        parts.append("\n".join(_wrapped(note, width, "  ") for note in table.footnotes))
    return "\n\n".join(parts) + "\n"


def _wrapped(text: str, width: int, later: str = "") -> str:
    return textwrap.fill(text, width, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)


def _blocks(table: Table, width: int) -> list[list[int]]:
    """Cut the columns of a table that is too wide into blocks that fit; each begins with what tells its rows apart."""
    keys = list(range(_key_columns(table)))
    narrowest = [_narrowest(table, column) + GAP for column in range(len(table.header))]
    room = width - sum(narrowest[column] for column in keys)
    blocks: list[list[int]] = [[]]
    used = 0
    for column in range(len(keys), len(table.header)):
        if used + narrowest[column] > room and blocks[-1]:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += narrowest[column]
    return [[*keys, *block] for block in blocks]


def _key_columns(table: Table) -> int:
    """Count the leading columns that tell the rows apart."""
    for count in range(1, len(table.header)):
        if len({row[:count] for row in table.rows}) == len(table.rows):
            return count
    return 1


def _longest(table: Table, column: int) -> int:
    return max(len(cell) for cell in (table.header[column], *(row[column] for row in table.rows)))


def _narrowest(table: Table, column: int) -> int:
    """The width that a column needs: short cells stay whole, the others may be broken between words."""
    longest = _longest(table, column)
    words = " ".join((table.header[column], *(row[column] for row in table.rows))).split()
    return longest if longest <= WHOLE else min(WORD, max(map(len, words)))


def _widths(table: Table, columns: Sequence[int], width: int) -> list[int]:
    """Give every column what it needs, and what is left over to the one that lacks most, again and again."""
    widths = [_narrowest(table, column) for column in columns]
    lacking = [_longest(table, column) - own for column, own in zip(columns, widths, strict=True)]
    for _ in range(width - sum(widths) - GAP * (len(columns) - 1)):
        neediest = lacking.index(max(lacking))
        if lacking[neediest] == 0:
            break
        widths[neediest] += 1
        lacking[neediest] -= 1
    return widths


def _grid(table: Table, columns: Sequence[int], width: int) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column, own in zip(columns, _widths(table, columns, width), strict=True):
        numeric = all(NUMBER.fullmatch(row[column]) for row in table.rows)
        grid.add_column(table.header[column], justify="right" if numeric else "left", overflow="fold", width=own)
    for row in table.rows:
        grid.add_row(*(row[column] for column in columns))
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None, highlight=False, markup=False, emoji=False).print(grid)
    return "\n".join(line.rstrip() for line in screen.getvalue().rstrip("\n").splitlines())
