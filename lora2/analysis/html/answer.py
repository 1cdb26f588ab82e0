"""The head of the page: what the study answers to its title, in a sentence that rules make of the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora2.analysis.html.charts import Chart, Line, Plot, Select, Spec, axis, by_method, method_words, spec
from lora2.analysis.methods import method_name
from lora2.analysis.stats import MIN_SEEDS, student_interval
from lora2.analysis.study.findings import UNJUDGED, findings, seeds_clause
from lora2.analysis.study.gather import COMPARISONS, Study, StudyCell
from lora2.analysis.study.models import ModelStudy, last_drawn
from lora2.analysis.study.pairs import Pair
from lora2.analysis.study.readme import PAPERS_MODELS
from lora2.analysis.study.scores_drawn import seen_range
from lora2.common.table import Table
from lora2.glue.tasks import metric_title, task_title

ROW = 26  # pixels of a method
UNKNOWN = "Not known yet"


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands below the title: the answer, what more there is to know at once, and the study's findings."""

    text: str
    more: tuple[str, ...]
    findings: tuple[str, ...]


def answer(studies: Sequence[ModelStudy], claims: Table, ran: Sequence[str]) -> Answer:
    """Answer whether LoRA² reproduces.

    Args:
        studies: what is known of each model, at least one, from small to large: the largest that ran answers.
        claims: the audit of the paper's own arithmetic.
        ran: the models of all finished runs.
    """
    arithmetic = f"By arithmetic alone, of the paper's own {claims.sentences[0]}"
    missing = [name for name in PAPERS_MODELS if name not in ran]
    unrun = (f"The paper's own encoders ({', '.join(missing)}) have not been run.",) if missing else ()
    last = last_drawn(studies)
    if last is None:
        first = COMPARISONS[0].command(studies[0].model)
        return Answer(f"{UNKNOWN}: no study over seeds has run; {first} makes the first.", (*unrun, arithmetic), ())
    study, shown = last
    _, found = study.comparisons[shown.comparison.key]
    told = tuple(findings(study.model, study.comparisons, study.seconds))
    return Answer(_verdict(study.model, shown, found), (*unrun, arithmetic), told)


def study_chart(studies: Sequence[ModelStudy]) -> Chart:
    """Draw a dot for each seed of every method and task, their mean and its 95 % interval; the larger model first."""
    drawn = [study for model in reversed(studies) for study in reversed(model.studies) if study.cells]
    views = {str(index): tuple(_plot(study, task) for task in study.tasks) for index, study in enumerate(drawn)}
    titles = {str(index): f"{study.model}: {study.comparison.title}" for index, study in enumerate(drawn)}
    description = (
        "Every seed of the study: a mark for each, hollow where it collapsed, a bar at their mean, a line for its "
        f"95 % interval from {MIN_SEEDS} seeds on, cut where it leaves the frame."
    )
    most = max(map(len, views.values()), default=0)
    return Chart(
        name="study",
        description=description,
        selects=(Select("Study", titles),),
        specs=(_dots(),) * most,
        views=views,
    )


def _verdict(model: str, study: Study, pairs: Sequence[Pair]) -> str:
    """Count where LoRA² stands above, behind or not apart, over pairs that have seeds and tasks enough."""
    if not pairs:
        return f"{UNKNOWN}: on {model}, {study.comparison.when}, LoRA² has not run beside a method of its size."
    judged = [pair.pooled.interval() for pair in pairs if pair.pooled and pair.verdict not in UNJUDGED]
    if not judged:
        return (
            f"{UNKNOWN}: on {model}, {study.comparison.when}, LoRA² ran beside methods of its size in {len(pairs)} "
            f"pair(s), too few to judge ({seeds_clause(pairs)}; it takes two tasks and {MIN_SEEDS} seeds, none of "
            "which diverged)."
        )
    above, behind = sum(low > 0.0 for low, _ in judged), sum(high < 0.0 for _, high in judged)
    apart = len(judged) - above - behind
    return (
        f"{_word(len(judged), above, behind)}, on {model}: {study.comparison.when}, beside methods of its size LoRA² "
        f"scores higher in {above} of {len(judged)} pairs, lower in {behind}, and is not told apart in {apart} "
        f"({seeds_clause(pairs)})."
    )


def _word(judged: int, above: int, behind: int) -> str:
    if above == judged:
        return "Yes"
    if above:
        return "In part"
    return "No" if behind else "Undecided"


def _plot(study: Study, task: str) -> Plot:
    cells = [study.cells[variant, task] for variant in study.variants if (variant, task) in study.cells]
    rows = [row for cell in cells for row in _rows(cell)]
    words = {
        **method_words({method_name(variant): variant for variant in study.variants}),
        "order": [method_name(variant) for variant in study.variants],
        "range": list(seen_range(cells)),
        "height": ROW * len(study.variants),
        "x": f"{metric_title(task)}, best of dev, in percent",
    }
    lost = [f"{method_name(cell.variant)} {len(cell.diverged)} of {len(cell.runs)}" for cell in cells if cell.diverged]
    return Plot("; diverged: ".join([task_title(task), *([", ".join(lost)] if lost else [])]), rows, words)


def _rows(cell: StudyCell) -> list[Line]:
    """A line for each seed, and one for their mean with its interval."""
    method, scores = method_name(cell.variant), cell.scores()
    collapsed = {run.seed for run in cell.collapsed}
    seeds = [
        {"method": method, "score": score, "seed": seed, "collapsed": seed in collapsed}
        for seed, score in cell.by_seed().items()
    ]
    if not scores:
        return []
    mean = {"method": method, "mean": sum(scores) / len(scores), "n": len(scores)}
    if len(scores) >= MIN_SEEDS:
        mean["low"], mean["high"] = student_interval(scores)
    return [*seeds, mean]


def _dots() -> Spec:
    colour, mark = by_method("colours", named=False), by_method("marks", named=False)
    scale = {"domain": "@range", "nice": False}
    y = axis("method", "nominal", sort="@order", title=None, scale={"domain": "@order"})
    score, mean = (axis(name, "quantitative", scale=scale, title="@x") for name in ("score", "mean"))
    number = {"format": ".2f"}
    seed_tip = [axis("method", "nominal"), axis("seed", "ordinal"), axis("score", "quantitative", **number)]
    mean_tip = [
        axis("method", "nominal"),
        axis("n", "quantitative", title="seeds"),
        *(axis(name, "quantitative", **number) for name in ("mean", "low", "high")),
    ]
    return spec(
        "@height",
        encoding={"y": y, "color": colour},
        layer=[
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6, "clip": True, "aria": False},
                "encoding": {"x": axis("low", "quantitative", scale=scale), "x2": {"field": "high"}},
            },
            {
                "transform": [{"filter": "isValid(datum.mean)"}],
                "mark": {"type": "tick", "thickness": 2.5, "size": 18},
                "encoding": {"x": mean, "tooltip": mean_tip},
            },
            {
                "transform": [{"filter": "isValid(datum.score)"}],
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8},
                "encoding": {
                    "x": score,
                    "shape": mark,
                    "stroke": colour,
                    "fillOpacity": {"condition": {"test": "datum.collapsed", "value": 0}, "value": 0.8},
                    "tooltip": seed_tip,
                },
            },
        ],
    )
