"""Render tables as text, markdown, CSV, LaTeX or JSON, and replace generated blocks between markers in files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from lora2.common.errors import UserError
from lora2.common.screen import to_screen
from lora2.common.table import MISSING, Table

SUFFIXES = {"text": ".txt", "markdown": ".md", "csv": ".csv", "latex": ".tex", "json": ".json"}
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "²": r"$^2$", "Δ": r"$\Delta$", "–": "--",
    "−": "$-$", "†": r"\dag{}", "≥": r"$\ge$", "≤": r"$\le$", "×": r"$\times$", "Λ": r"$\Lambda$", "Σ": r"$\Sigma$",
    "𝒰": r"$\mathcal{U}$", "𝒱": r"$\mathcal{V}$", "⚠": r"\textbf{!}", "γ": r"$\gamma$",
}  # fmt: skip


def render(tables: Sequence[Table], form: str) -> str:
    """Render all sections in one format.

    Args:
        tables: the sections.
        form: "text" (aligned, in the width of the screen), "markdown", "csv", "latex" or "json".

    Raises:
        UserError: another format.
    """
    whole = {"text": to_screen, "csv": to_csv, "json": to_json}.get(form)
    if whole is not None:
        return whole(tables)
    one = {"markdown": to_markdown, "latex": to_latex}.get(form)
    if one is None:
        raise UserError(f"format: got {form!r}, allowed: {', '.join(SUFFIXES)}")
    return "\n".join(one(table) for table in tables)


def form_for(stream: TextIO) -> str:
    """Choose the format for a reader: aligned text on a terminal, markdown in a pipe."""
    return "text" if stream.isatty() else "markdown"


def to_markdown(table: Table) -> str:
    """Render one section as GitHub markdown, with a heading of level 3."""
    lines = [f"### {table.title}", "", *_paragraphs(table.sentences)]
    if table.rows:
        lines += [_pipe(table.header), _pipe(["---"] * len(table.header)), *map(_pipe, table.rows), ""]
    if table.footnotes:
        lines += [*(f"- {note}" for note in table.footnotes), ""]
    return "\n".join(lines)


def to_csv(tables: Sequence[Table]) -> str:
    """Render all sections as one CSV with a leading `section` column and the union of their columns.

    A missing value is an empty field. Sentences and footnotes are left out: a CSV is for a program to read.
    """
    columns = list(dict.fromkeys(name for table in tables if table.rows for name in table.header))
    out = io.StringIO()
    writer = csv.DictWriter(out, ["section", *columns], restval="", lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for row in table.rows:
            cells = {name: "" if cell == MISSING else cell for name, cell in zip(table.header, row, strict=True)}
            writer.writerow({"section": table.title, **cells})
    return out.getvalue()


def to_json(tables: Sequence[Table]) -> str:
    """Render a list of sections; a row is an object by column, and a missing value is null."""
    sections = [
        {
            "title": table.title,
            "sentences": table.sentences,
            "rows": [
                {name: None if cell == MISSING else cell for name, cell in zip(table.header, row, strict=True)}
                for row in table.rows
            ],
            "footnotes": table.footnotes,
        }
        for table in tables
    ]
    return json.dumps(sections, indent=1, ensure_ascii=False) + "\n"


def to_latex(table: Table) -> str:
    """Render one section as a booktabs tabular with its sentences and footnotes as paragraphs."""
    lines = [rf"\paragraph{{{_latex(table.title)}}}", *map(_latex, table.sentences)]
    if table.rows:
        body = [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
        head = " & ".join(map(_latex, table.header)) + r" \\"
        lines += ["", rf"\begin{{tabular}}{{{'l' * len(table.header)}}}", r"\toprule", head, r"\midrule"]
        lines += [*body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, "", *(_latex(note) + r"\\" for note in table.footnotes), ""])


def replace_block(text: str, name: str, body: str, path: Path | None = None) -> str:
    """Replace everything between `<!-- name:begin -->` and `<!-- name:end -->` in `text` by `body`.

    Args:
        text: of a hand-written file.
        name: of the block.
        body: the generated text.
        path: of the file, for the message.

    Raises:
        UserError: the markers do not stand there exactly once each, in this order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(
            f"{path or 'the text'}: needs the markers {begin} and {end}, once each and in this order; add them "
            "where the block belongs"
        )
    head, tail = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    return f"{head}\n{body.strip()}\n{tail}"


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({reason}); give a text file that can be") from error


def write_text(path: Path, text: str) -> None:
    """Write a generated file, and make its folder.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); give a file in a folder that you may write"
        ) from error


def write_block(path: Path, name: str, body: str) -> None:
    """Apply `replace_block` to a file.

    Raises:
        UserError: as `replace_block`, or the file cannot be read or written.
    """
    write_text(path, replace_block(read_text(path), name, body, path))


def _paragraphs(sentences: Sequence[str]) -> list[str]:
    return [line for sentence in sentences for line in (sentence, "")]


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
