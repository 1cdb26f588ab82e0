"""What a sceptical reader asks of LoRA²'s runs, from `history.monitor` of their records: do the regularisers hold, does
anything fail without them, how alike are the two scales, would the full importance score keep other singular values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora2.common.rendering import MISSING, Table
from lora2.runs.reader import Run, load_records, parse_run

TERMS = {"monitor/orth_uv": "R(u,v)", "monitor/orth_UV": "R(𝒰,𝒱)", "monitor/orth_PQ": "R(P,Q)"}
COSINE, AGREES = "monitor/cosine_PQ", "monitor/reduced_agrees"
Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Followed:
    """One finished LoRA² run with what was followed over its training."""

    run: Run
    main: str
    rows: tuple[Row, ...]

    def course(self, key: str) -> list[float]:
        """The values of one number over training; empty if it was not followed."""
        return [row[key] for row in self.rows if key in row]


def load_followed(folder: Path) -> tuple[list[Followed], list[str]]:
    """(runs, warnings) of every record in `folder` that is a finished LoRA² run with a monitor."""
    found, warnings = load_records(folder, _parse)
    return [each for each in found if each is not None], warnings


def _parse(data: Any) -> Followed | None:
    run = parse_run(data)
    rows = (data.get("history") or {}).get("monitor") or []
    if run.status != "ok" or data["config"]["method"] != "lora2" or not rows:
        return None
    return Followed(run, str(data["metrics"]["main"]), tuple(dict(row) for row in rows))


def sceptic_table(runs: Iterable[Followed]) -> Table:
    """A row a run: metric; each regulariser's largest and last value; cosine; what the two scores would both keep."""
    terms = (f"{name}: max, end" for name in TERMS.values())
    header = ("Run", "Best / last", "Kept, emptied", *terms, "mean cosine of P, Q", "Scores agree")
    ordered = sorted(runs, key=lambda each: (each.run.task, each.run.variant, each.run.recipe, each.run.run_id))
    return Table(
        "What a sceptic asks",
        header,
        tuple(_line(each) for each in ordered),
        (
            "Regularisers are eq. 5 as printed, summed over all matrices, without γ, whether they are trained or not. "
            "The cosine is the mean of |cos| over the rows of P = uv and of Q = 𝒰𝒱 in square matrices, at the end; no "
            "term of eq. 5 ties P to Q, and independent random rows of MiniLM's 384 entries give 0.041.",
            "Scores agree: in a run that prunes by the full score (eq. 8), the share of the kept singular values that "
            "the reduced one (eq. 9) would keep too, least over training and at the end. Within one matrix the two "
            "always agree, since eq. 8 adds a constant there (a test holds it).",
        ),
        (f"{len(ordered)} runs with a monitor; kept = singular values left, emptied = matrices left with none.",),
    )


def _line(each: Followed) -> tuple[str, ...]:
    run = each.run
    scores = " / ".join(f"{100 * side[each.main]:.2f}" for side in (run.best, run.last))
    kept = f"{sum(run.ranks.values())}, {sum(rank == 0 for rank in run.ranks.values())} of {len(run.ranks)}"
    terms = (_largest_and_last(each.course(key)) for key in TERMS)
    cosine = each.course(COSINE)
    agrees = [100 * value for value in each.course(AGREES)]
    return (
        f"{run.model}, {run.task}, {run.variant}, {run.recipe}, seed {run.seed}",
        f"{scores} {each.main}",
        kept,
        *terms,
        f"{cosine[-1]:.3f}" if cosine else MISSING,
        f"{min(agrees):.0f} %, {agrees[-1]:.0f} %" if agrees else MISSING,
    )


def _largest_and_last(course: Sequence[float]) -> str:
    return f"{max(course):.3g}, {course[-1]:.3g}" if course else MISSING
