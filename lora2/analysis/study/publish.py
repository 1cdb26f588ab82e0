"""The command `results.py study`: the page and its pictures, or what the README shows; printed, written or checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora2.analysis.study.models import ModelStudy, model_studies
from lora2.analysis.study.page import study_page
from lora2.analysis.study.pictures import draw_pictures
from lora2.analysis.study.readme import readme_block, readme_table
from lora2.analysis.study.tables import RUNS
from lora2.common.errors import UserError
from lora2.common.rendering import read_text, replace_block, write_text
from lora2.common.voice import say
from lora2.runs.places import read_places

COMMAND = "python scripts/results.py study"


def show_study(places: Sequence[Path], model: str | None, *, lines: bool) -> int:
    """Print the page, or what the README shows of it.

    Args:
        places: results folders; the first has paper/ too.
        model: only this one.
        lines: the README's lines, picture and table in place of the page.

    Returns:
        The exit code, 0.
    """
    made = _made(places, model)
    text = "\n\n".join(made.readme.values()) if lines else made.page
    for place in places[1:]:  # runs that are not published lie elsewhere
        for path in (place / "runs").glob("*.json"):
            if not (places[0] / "runs" / path.name).exists():
                text = text.replace(f"{RUNS}/{path.name}", path.as_posix())
    print(text, end="\n" if lines else "")
    return 0


def write_study(results: Path, page: Path) -> int:
    """Write the page and its pictures, of published runs alone.

    Args:
        results: the folder with runs/ and paper/; figures/ is written there.
        page: docs/STUDY.md.

    Returns:
        The exit code, 0.
    """
    _write_page(_made([results], None), results, page)
    return 0


def write_readme(results: Path, readme: Path) -> int:
    """Put the lines, the picture and the table into the README's blocks, of published runs alone."""
    write_text(readme, _renewed(readme, _made([results], None)))
    return 0


def write_all(results: Path, page: Path, readme: Path) -> int:
    """Do what `write_study` and `write_readme` do, of the records read once."""
    made = _made([results], None)
    _write_page(made, results, page)
    write_text(readme, _renewed(readme, made))
    return 0


def check_study(results: Path, page: Path, readme: Path) -> int:
    """Say whether the page or the README is stale: 1 if one is, else 0."""
    made = _made([results], None)
    stale = {
        f"{page}: stale; run {COMMAND} --write": not page.is_file() or read_text(page) != made.page,
        f"{readme}: stale; run {COMMAND} --lines --write": read_text(readme) != _renewed(readme, made),
    }
    for told in [told for told, holds in stale.items() if holds]:
        say(told)
    return int(any(stale.values()))


@dataclass(frozen=True)
class _Made:
    """What is made of the records: docs/STUDY.md, the README's blocks by name, and what was gathered."""

    page: str
    readme: Mapping[str, str]
    studies: Sequence[ModelStudy]


def _write_page(made: _Made, results: Path, page: Path) -> None:
    for study in made.studies:
        for path in draw_pictures(study, results / "figures"):
            say(f"wrote {path}")
    write_text(page, made.page)
    say(f"wrote {page}")


def _renewed(readme: Path, made: _Made) -> str:
    text = read_text(readme)
    for name, body in made.readme.items():
        text = replace_block(text, name, body, readme)
    return text


def _made(places: Sequence[Path], model: str | None) -> _Made:
    papers = places[0] / "paper"
    if not papers.is_dir():
        raise UserError(f"--results: no folder {papers}; give the folder that holds runs/ and paper/: --results DIR")
    runs = read_places(places)
    studies = model_studies(runs, papers, model)
    models = sorted({run.model for run in runs if run.status == "ok" and not run.caveats})
    blocks = {"study": readme_block(studies, papers, models), "results": readme_table(studies)}
    return _Made(study_page(studies), blocks, studies)
