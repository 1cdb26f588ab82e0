"""What the README shows of the study: three answers, a picture, and one table of one recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora2.analysis.claims.audit import audit, tally
from lora2.analysis.methods import method_name
from lora2.analysis.stats import summarise
from lora2.analysis.study.findings import pair_clause, seeds_clause
from lora2.analysis.study.gather import PAIRS, VARIANTS, Study, StudyCell, marked_score
from lora2.analysis.study.models import ModelStudy, last_drawn, picture_name
from lora2.analysis.study.page import picture_markup
from lora2.analysis.study.pairs import Pair
from lora2.common.rendering import to_markdown
from lora2.common.table import MISSING, Table
from lora2.glue.tasks import metric_title, task_title
from lora2.runs.caveats import CAVEATS, FALLEN, MARK
from lora2.runs.pretrained import TUNED_ON

PAPERS_MODELS = ("deberta_v3_base", "roberta_large")
FIGURES = Path("results/figures")  # from the root
SHOWN = tuple(variant for variant in VARIANTS if variant != "adalora_r2")  # nine rows; docs/STUDY.md has all


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


def readme_table(studies: Sequence[ModelStudy]) -> str:
    """Write one table: the methods on the tasks of the last model that ran, at one recipe; and what makes its runs.

    Args:
        studies: what is known of each model, from small to large.
    """
    last = last_drawn(studies)
    if last is None:
        commands = "; ".join(study.studies[0].comparison.command(study.model) for study in studies)
        return f"No run of the study yet: {commands}."
    _, shown = last
    return f"{to_markdown(_scores(shown))}\nMade by {shown.comparison.command(shown.model)}."


def _scores(study: Study) -> Table:
    """A line for each method: parameters, then best and last evaluation on each task in one cell."""
    runs = study.runs
    seeds = sorted({run.seed for run in runs})
    recipes = ", ".join(sorted({run.recipe for run in runs}))
    notes = [
        "Best evaluation / after the last step, mean ± standard deviation over the seeds "
        f"{', '.join(map(str, seeds))} (n = {len(seeds)}); chosen on dev, as the paper does."
    ]
    fewer = sorted({f"{method_name(c.variant)} {task_title(c.task)} {len(c.scores())}" for c in study.cells.values()
                    if len(c.scores()) < len(seeds)})  # fmt: skip
    if fewer:
        notes.append(f"Fewer seeds: {', '.join(fewer)}.")
    notes += [TUNED_ON[study.model]] if study.model in TUNED_ON else []
    fallen = {kind for run in runs for kind in run.caveats}
    notes += [f"{MARK} {kind}: {CAVEATS[kind]}." for kind in FALLEN if kind in fallen]
    return Table(
        title=f"{study.model}, {study.comparison.when} (recipe {recipes}); not the paper's encoder",
        header=("Method", "Adapter params", *(_task_column(task) for task in study.tasks)),
        rows=tuple(_line(study, variant) for variant in study.variants if variant in SHOWN),
        footnotes=tuple(notes),
    )


def _line(study: Study, variant: str) -> tuple[str, ...]:
    cells = {cell.task: cell for cell in study.row(variant)}
    counts = [run.counts["adapter"] for cell in cells.values() for run in cell.runs if "adapter" in run.counts]
    scores = [
        marked_score(_best_and_last(cells[task]), [cells[task]]) if task in cells else MISSING for task in study.tasks
    ]
    return method_name(variant), f"{counts[0]:,}" if counts else MISSING, *scores


def _best_and_last(cell: StudyCell) -> str:
    if not cell.scores():
        return "diverged"
    return f"{summarise(cell.scores('best')).text} / {summarise(cell.scores('last')).text}"


def _task_column(task: str) -> str:
    return f"{task_title(task)} {metric_title(task)}, best / last"


def _arithmetic(papers: Path) -> str:
    audited = audit(papers)
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally(audited).items())
    return f"of {len(audited)} claims of the paper, {kinds} ([docs/RESULTS.md](docs/RESULTS.md))."


def _trained(studies: Sequence[ModelStudy]) -> str:
    told = [
        f"{study.model}, {shown.comparison.when} ({seeds_clause(found)}): {_like_for_like(found)}"
        for study in studies
        for shown, found in study.comparisons.values()
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
    """The dots of the last model that ran."""
    last = last_drawn(studies)
    if last is None:
        return []
    study, shown = last
    alt = f"{study.model}: every seed of every method, with mean and interval"
    return ["", picture_markup(picture_name(study.model, shown.comparison.key), alt, FIGURES)]
