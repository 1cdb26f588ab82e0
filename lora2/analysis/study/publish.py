"""The command `results.py study`: the page and its pictures, or the README's lines; printed, written or checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora2.analysis.study.models import ModelStudy, model_studies
from lora2.analysis.study.page import study_page
from lora2.analysis.study.pictures import draw_pictures
from lora2.analysis.study.readme import readme_block
from lora2.common.errors import UserError
from lora2.common.rendering import read_text, replace_block, write_text
from lora2.common.voice import say
from lora2.runs.places import load_places

COMMAND = "python scripts/results.py study"


def show_study(places: Sequence[Path], model: str | None, *, lines: bool) -> int:
    """Print the page, or the README's lines.

    Args:
        places: results folders; the first has paper/ too.
        model: only this one.
        lines: the README's lines in place of the page.

    Returns:
        The exit code, 0.
    """
    page, block, _ = _made(places, model)
    print(block if lines else page, end="\n" if lines else "")
    return 0


def write_study(results: Path, page: Path) -> int:
    """Write the page and its pictures, of published runs alone.

    Args:
        results: the folder with runs/ and paper/; figures/ is written there.
        page: docs/STUDY.md.

    Returns:
        The exit code, 0.
    """
    text, _, studies = _made([results], None)
    for study in studies:
        for path in draw_pictures(study, results / "figures"):
            say(f"wrote {path}")
    write_text(page, text)
    say(f"wrote {page}")
    return 0


def write_readme(results: Path, readme: Path) -> int:
    """Put the three lines and the picture into the README's study block, of published runs alone."""
    _, block, _ = _made([results], None)
    write_text(readme, replace_block(read_text(readme), "study", block, readme))
    return 0


def check_study(results: Path, page: Path) -> int:
    """Say whether the page is stale: 1 if it is, else 0."""
    text, _, _ = _made([results], None)
    stale = not page.is_file() or read_text(page) != text
    if stale:
        say(f"{page}: stale; run {COMMAND} --write")
    return int(stale)


def _made(places: Sequence[Path], model: str | None) -> tuple[str, str, list[ModelStudy]]:
    papers = places[0] / "paper"
    if not papers.is_dir():
        raise UserError(f"--results: no folder {papers}; give the folder that holds runs/ and paper/: --results DIR")
    runs, warnings = load_places(places)
    for warning in warnings:
        say(f"warning: {warning}")
    studies = model_studies(runs, papers, model)
    models = sorted({run.model for run in runs if run.status == "ok" and not run.caveats})
    return study_page(studies), readme_block(studies, papers, models), studies
