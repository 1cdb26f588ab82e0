"""A GLUE file as a table of strings: tab-separated, without any quoting, UTF-8.

Fields contain unbalanced quotes, so a CSV reader that knows quotes silently glues rows together. Only a newline ends a
row (U+2028, U+0085 and the like occur inside fields).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora2.common.errors import UserError
from lora2.glue.encoding import refuse_other_encodings

_STRAY_BYTE = re.compile("[\udc80-\udcff]")  # how "surrogateescape" decodes a byte that is not UTF-8
_INDEX = re.compile("[0-9]{1,9}")
_NAMED = 3  # ids that a message lists


@dataclass(frozen=True)
class Table:
    """Hold a TSV file.

    Attributes:
        path: of the file.
        header: names of the columns.
        rows: each of as many fields.
        lines: 1-based line number of every row.
        dropped: line numbers of the rows that were left out.
    """

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: Sequence[int]
    dropped: tuple[int, ...] = ()

    def position(self, name: str) -> int:
        """Return where a column stands.

        Raises:
            UserError: there is none.
        """
        if name not in self.header:
            raise UserError(
                f"{self.path}, line 1: no column {name!r}, found {', '.join(map(repr, self.header))}. "
                "Put the official header back, or download the file again."
            )
        return self.header.index(name)

    def column(self, name: str) -> list[str]:
        """Return a column by its name.

        Raises:
            UserError: there is none.
        """
        position = self.position(name)
        return [row[position] for row in self.rows]


def read_bytes(path: Path) -> bytes:
    """Read a file of the official download.

    Raises:
        UserError: it is missing or cannot be read.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file. data=local needs the official GLUE files under their official names; "
            "copy it there, or use data=hub or data=demo."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); mend its permissions so that you may read it, or "
            "download it again."
        ) from None


def parse_table(path: Path, content: bytes, header: tuple[str, ...] | None, advice: str | None) -> Table:
    """Split a file into rows and fields. A byte-order mark, CRLF line ends and blank lines at the end are accepted.

    Args:
        path: of the file, for messages.
        content: its bytes.
        header: names of the columns, for a file that has no header line.
        advice: how a bad row is mended; None leaves bad rows out.

    Raises:
        UserError: the file is in another encoding or without rows, or has a bad row: one with another number of columns
            than the header, or with bytes that are not UTF-8.
    """
    refuse_other_encodings(path, content)
    text = content.decode("utf-8-sig", errors="surrogateescape")  # MRPC starts with a byte-order mark
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    first_line = 1
    if header is None and lines:
        header, lines, first_line = tuple(lines[0].split("\t")), lines[1:], 2
    if header is None or not lines:
        raise UserError(f"{path}: no rows. An official GLUE file has at least one; download it again.")
    if doubled := [name for name, count in Counter(header).items() if count > 1]:
        raise UserError(f"{path}, line 1: the column {doubled[0]!r} is there twice; download the official file again.")
    rows = [line.split("\t") for line in lines]
    table = Table(path=path, header=header, rows=rows, lines=range(first_line, first_line + len(rows)))
    bad = _wrong_widths(table)
    if _STRAY_BYTE.search(text):
        bad |= _stray_bytes(table)
    return without_bad_rows(table, bad, advice)


def without_bad_rows(table: Table, bad: Mapping[int, str], advice: str | None) -> Table:
    """Return the table without its bad rows, or refuse it.

    Args:
        table: all rows.
        bad: what is wrong with a row, by its position.
        advice: how a bad row is mended; None leaves bad rows out.

    Raises:
        UserError: there is a bad row and advice, or no row is left.
    """
    if not bad:
        return table
    if advice is not None:
        first = min(bad)
        others = f" ({len(bad)} rows of this file are bad)" if len(bad) > 1 else ""
        raise UserError(f"{table.path}, line {table.lines[first]}: {bad[first]}{others}. {advice}")
    kept = [position for position in range(len(table.rows)) if position not in bad]
    if not kept:
        raise UserError(
            f"{table.path}: no rows are left, as all {len(bad)} are bad; the first: {bad[min(bad)]}. An official GLUE "
            "file has none of these; download it again."
        )
    return replace(
        table,
        rows=[table.rows[position] for position in kept],
        lines=[table.lines[position] for position in kept],
        dropped=(*table.dropped, *(table.lines[position] for position in sorted(bad))),
    )


def in_order_of(table: Table, column: str) -> Table:
    """Sort the rows of a test file by its own index, which must count from 0 without a gap.

    Args:
        table: the rows in any order.
        column: the name of the index.

    Raises:
        UserError: an index is no whole number, missing or there twice; the message names them.
    """
    written = table.column(column)
    cure = "It says where a prediction belongs, so download the official file again."
    for line, text in zip(table.lines, written, strict=True):
        if not _INDEX.fullmatch(text):
            raise UserError(f"{table.path}, line {line}: {column} is {text!r}, not a whole number. {cure}")
    order = [int(text) for text in written]
    counts = Counter(order)
    doubled = sorted(index for index, count in counts.items() if count > 1)
    missing = sorted(set(range(len(counts))) - counts.keys())
    found = [f"{_listed(ids)} {what}" for ids, what in ((missing, "missing"), (doubled, "there twice")) if ids]
    if found:
        raise UserError(
            f"{table.path}: {column} must hold every number from 0 once; {' and '.join(found)} "
            f"({len(missing)} missing, {len(doubled)} doubled). {cure}"
        )
    positions = sorted(range(len(order)), key=order.__getitem__)
    return replace(
        table, rows=[table.rows[each] for each in positions], lines=[table.lines[each] for each in positions]
    )


def _wrong_widths(table: Table) -> dict[int, str]:
    """What is wrong, by the position of the row."""
    width = len(table.header)
    expected = f"expected {width} ({', '.join(table.header)}); a tab or newline inside a field cuts a row"
    return {i: f"{len(row)} columns, {expected}" for i, row in enumerate(table.rows) if len(row) != width}


def _stray_bytes(table: Table) -> dict[int, str]:
    """What is wrong, by the position of the row."""
    found = {}
    for position, row in enumerate(table.rows):
        if stray := _STRAY_BYTE.search("\t".join(row)):
            byte = ord(stray.group()) - 0xDC00
            found[position] = f"byte 0x{byte:02x} is not UTF-8, the only encoding allowed, though other letters are"
    return found


def _listed(ids: Sequence[int]) -> str:
    """The first of them, and whether there are more."""
    return ", ".join(map(str, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")
