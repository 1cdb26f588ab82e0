"""The README's three answers and its picture: what holds by arithmetic, what was trained, what was not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora2.analysis.claims.audit import audit, tally
from lora2.analysis.methods import method_name
from lora2.analysis.study.findings import pair_clause, seeds_clause
from lora2.analysis.study.gather import PAIRS
from lora2.analysis.study.models import ModelStudy, picture_name
from lora2.analysis.study.page import picture_markup
from lora2.analysis.study.pairs import Pair

PAPERS_MODELS = ("deberta_v3_base", "roberta_large")
FIGURES = Path("results/figures")  # from the root


def readme_block(studies: Sequence[ModelStudy], papers: Path, ran: Sequence[str]) -> str:
    """Write the block.

    Args:
        studies: what is known of each model.
        papers: the folder of the papers' numbers.
        ran: the models of all finished runs.
    """
    lines = [
        f"- **By arithmetic**: {_arithmetic(papers)}",
        f"- **Trained, like for like**: {_trained(studies)}",
        f"- **Not run**: {_missing(studies, ran)}",
    ]
    return "\n".join([*lines, *_picture(studies)])


def _arithmetic(papers: Path) -> str:
    audited = audit(papers)
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally(audited).items())
    return f"of {len(audited)} claims of the paper, {kinds} ([docs/RESULTS.md](docs/RESULTS.md))."


def _trained(studies: Sequence[ModelStudy]) -> str:
    told = [
        f"{study.model}, {shown.comparison.when} ({seeds_clause(found)}): {_like_for_like(found)}"
        for study in studies
        for shown, found in zip(study.studies, study.pairs, strict=True)
        if found
    ]
    return f"{'. '.join(told) or 'nothing over seeds yet'} ([docs/STUDY.md](docs/STUDY.md))."


def _like_for_like(pairs: Sequence[Pair]) -> str:
    clauses = [
        f"{method_name(ours)} is {', '.join(pair_clause(pair) for pair in pairs if pair.ours == ours)}"
        for ours in PAIRS
        if any(pair.ours == ours for pair in pairs)
    ]
    return "; ".join(clauses)


def _missing(studies: Sequence[ModelStudy], ran: Sequence[str]) -> str:
    """The paper's own models, then each comparison without runs and its command."""
    models = [name for name in PAPERS_MODELS if name not in ran]
    lacking = [
        f"{study.model}, {each.comparison.when} ({each.comparison.command(study.model)})"
        for study in studies
        for each in study.studies
        if not each.cells
    ]
    first = [f"the paper's own encoders ({', '.join(models)})"] if models else []
    return f"{'; '.join([*first, *lacking]) or 'nothing of the study'}."


def _picture(studies: Sequence[ModelStudy]) -> list[str]:
    """The dots of the last model that ran: models go from small to large."""
    for study in reversed(studies):
        shown = study.drawn
        if shown is not None:
            alt = f"{study.model}: every seed of every method, with mean and interval"
            return ["", picture_markup(picture_name(study.model, shown.comparison.key), alt, FIGURES)]
    return []
