"""What a sceptical reader asks of LoRA²'s runs, from `history.monitor` of their records: do the regularisers hold, does
anything fail without them, how alike are the two scales, would the full importance score keep other singular values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lora2.common.table import MISSING, Table
from lora2.core import keys
from lora2.core.terms import TERM_SIDES, TERMS
from lora2.runs.caveats import CAVEATS, MARK, named
from lora2.runs.reader import Run


def diagnostics_table(runs: Iterable[Run]) -> Table:
    """Build a row for each finished LoRA² run that was monitored; every other run is left out.

    A row has the metric, each regulariser's largest and last value, the cosine, and what both scores would keep.
    """
    terms = (f"R({','.join(TERM_SIDES[term])}): max, end" for term in TERMS)
    rows = monitored(runs)
    return Table(
        title="What a sceptic asks",
        header=("Run", "Best / last", "Kept, emptied", *terms, "mean cosine of P, Q", "Scores agree"),
        rows=tuple(map(_line, rows)),
        sentences=(
            f"{len(rows)} runs with a monitor; kept = singular values left, emptied = matrices left with none.",
            "Regularisers are eq. 5 as printed, summed over all matrices, without γ, whether they are trained or not. "
            "The cosine is the mean of |cos| over the rows of P = uv and of Q = 𝒰𝒱 in square matrices, at the end; no "
            "term of eq. 5 ties P to Q, and independent random rows of MiniLM's 384 entries give 0.041.",
            "Scores agree: in a run that prunes by the full score (eq. 8), the share of the kept singular values that "
            "the reduced one (eq. 9) would keep too, least over training and at the end. Within one matrix the two "
            "always agree, since eq. 8 adds a constant there (a test holds it).",
        ),
        footnotes=tuple(
            f"{MARK} {kind}: {CAVEATS[kind]}." for kind in CAVEATS if any(kind in run.caveats for run in rows)
        ),
    )


def monitored(runs: Iterable[Run]) -> list[Run]:
    """List the finished LoRA² runs that were monitored, in the order of the table's rows."""
    found = [run for run in runs if run.status == "ok" and run.method == "lora2" and run.history.get("monitor")]
    return sorted(found, key=lambda run: (run.task, run.variant, run.recipe, run.run_id))


def course(run: Run, key: str) -> list[float]:
    """List the values of one monitored number over training; none if it was not followed."""
    return [point[key] for point in run.history.get("monitor", ()) if key in point]


def _line(run: Run) -> tuple[str, ...]:
    scores = " / ".join(f"{100 * side[run.main]:.2f}" for side in (run.best, run.last))
    kept = f"{sum(run.ranks.values())}, {sum(rank == 0 for rank in run.ranks.values())} of {len(run.ranks)}"
    cosine = course(run, keys.COSINE)
    agrees = [100 * value for value in course(run, keys.SCORES_AGREE)]
    return (
        f"{run.model}, {run.task}, {run.variant}, {run.recipe}, seed {run.seed}",
        named(f"{scores} {run.main}", run.caveats),
        kept,
        *(_largest_and_last(course(run, keys.regulariser(term))) for term in TERMS),
        f"{cosine[-1]:.3f}" if cosine else MISSING,
        f"{min(agrees):.0f} %, {agrees[-1]:.0f} %" if agrees else MISSING,
    )


def _largest_and_last(values: Sequence[float]) -> str:
    return f"{max(values):.3g}, {values[-1]:.3g}" if values else MISSING
