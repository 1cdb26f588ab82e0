"""The claims about scores: averages, margins, and where the printed values come from. Same rules as
lora2/analysis/claims/checks.py.
"""

from __future__ import annotations

from collections.abc import Callable

from lora2.analysis.claims.checks import FAILS, HOLDS, OPEN, TOLERANCE, Finding, Papers, Values, only_if
from lora2.analysis.paper import PaperRow, PaperTable
from lora2.analysis.stats import glue_average
from lora2.core.terms import TERMS

OURS = ("lora2_k1", "lora2_k8")
FORMULA = "mean over tasks, QQP = mean(acc, F1), MNLI = mean(m, mm)"


def average(variant: str) -> Callable[[Values, Papers], Finding]:
    """Make a check of one printed average of Table 1."""

    def check(values: Values, papers: Papers) -> Finding:
        row = papers["table1"].rows[variant]
        good = abs(row.recomputed - values["average"]) <= TOLERANCE
        others = f"with the first of each pair only: {first_only(row):.2f}"
        return Finding(f"{row.recomputed:.2f}", HOLDS if good else FAILS, f"{FORMULA}; {others}")

    return check


def averages(name: str, *, baselines: bool) -> Callable[[Values, Papers], Finding]:
    """Make a check of every printed average of a table (`baselines`: all rows but LoRA²'s own)."""

    def check(values: Values, papers: Papers) -> Finding:
        table = papers[name]
        rows = [row for row in table.rows.values() if not (baselines and row.variant in OURS)]
        wrong = [row for row in rows if table.average_is_wrong(row)]
        text = ", ".join(
            f"{row.paper_name}: printed {row.average:.2f}, entries give {row.recomputed:.3f}" for row in wrong
        )
        good = f"{len(rows) - len(wrong)} of {len(rows)} to 0.01"
        verdict = HOLDS if not wrong else f"{FAILS} for {', '.join(row.paper_name for row in wrong)}"
        return Finding(f"{good}; {text}" if wrong else good, verdict, FORMULA if baselines else "mean over the columns")

    return check


def margin(ours: str, theirs: str) -> Callable[[Values, Papers], Finding]:
    """Make a check of one stated difference of averages: from entries, from the printed averages, and with one side's
    pairs cut.
    """

    def check(values: Values, papers: Papers) -> Finding:
        left, right = papers["table1"].rows[ours], papers["table1"].rows[theirs]
        entries, printed = left.recomputed - right.recomputed, (left.average or 0.0) - (right.average or 0.0)
        mixed = first_only(left) - right.recomputed
        near = [abs(number - values["margin"]) <= TOLERANCE for number in (entries, printed)]
        text = f"{entries:.2f} from the entries, {printed:.2f} from the printed averages"
        return Finding(text, _margin_verdict(papers["table1"], left, near), _margin_how(left, right, mixed))

    return check


def rte_margin(values: Values, papers: Papers) -> Finding:
    """Compare RTE of LoRA² k=1 with AdaLoRA r=2."""
    ours, theirs = (papers["table1"].rows[variant].scores["rte"]["accuracy"] for variant in ("lora2_k1", "adalora_r2"))
    good = abs(ours - theirs - values["margin"]) <= TOLERANCE and ours == values["score"]
    return Finding(f"{ours - theirs:.2f}", HOLDS if good else FAILS, f"Table 1, RTE: {ours:.2f} − {theirs:.2f}")


def k1_beats_r8(values: Values, papers: Papers) -> Finding:
    """Compare k=1 with each baseline of rank 8."""
    rows = papers["table1"].rows
    ours = rows["lora2_k1"].recomputed
    gaps = {rows[name].paper_name: ours - rows[name].recomputed for name in ("lora_r8", "adalora_r8", "sora_r8")}
    text = ", ".join(f"{gap:+.2f} ({name})".replace("-", "−") for name, gap in gaps.items())
    above_us = [name for name, gap in gaps.items() if gap <= 0]
    against = f"{FAILS} against {', '.join(above_us)}"
    return Finding(text, against if above_us else HOLDS, "recomputed averages of Table 1")


def dev_or_test(values: Values, papers: Papers) -> Finding:
    """Compare AdaLoRA's rows with AdaLoRA's own table, which says dev."""
    names = ("adalora_r2", "adalora_r8")
    pairs = [(papers["table1"].rows[name].scores, papers["adalora_table1"].rows[name].scores) for name in names]
    cells = [(tuple(ours[task].values()), tuple(theirs[task].values())) for ours, theirs in pairs for task in ours]
    same = sum(ours == theirs for ours, theirs in cells)
    text = f"{same} of {len(cells)} cells of the AdaLoRA rows equal AdaLoRA's dev table"
    verdict = f"{FAILS} for the AdaLoRA rows" if same == len(cells) else OPEN
    return Finding(text, verdict, "cell by cell: Table 1 here against AdaLoRA's Table 1 (dev)")


def regulariser_gain(values: Values, papers: Papers) -> Finding:
    """Compare all regularisers with uv, 𝒰𝒱 and P&Q alone."""
    rows = papers["table3"].rows
    singles = [rows[f"lora2_k1_reg-{name}"] for name in TERMS]
    gains = {row.paper_name: rows["lora2_k1"].recomputed - row.recomputed for row in singles}
    good = all(f"{gain:.1f}" == f"{values['margin']:.1f}" for gain in gains.values())
    text = ", ".join(f"{gain:.2f} (over {name})" for name, gain in gains.items())
    return Finding(
        text, HOLDS if good else FAILS, "recomputed averages of Table 3, to one decimal; one run each, no seeds printed"
    )


def first_only(row: PaperRow) -> float:
    """Average with accuracy alone for QQP and matched alone for MNLI."""
    return glue_average({task: [next(iter(scores.values()))] for task, scores in row.scores.items()})


def _margin_verdict(table: PaperTable, left: PaperRow, near: list[bool]) -> str:
    entries, printed = near
    if entries:
        return HOLDS
    if printed:
        wrong = ", which its own row does not give" if table.average_is_wrong(left) else ""
        return only_if(f"the printed average {left.average:.2f} is taken{wrong} (to 0.01)")
    return FAILS


def _margin_how(left: PaperRow, right: PaperRow, mixed: float) -> str:
    base = f"averages of Table 1: {left.recomputed:.2f} − {right.recomputed:.2f}"
    return f"{base}; QQP accuracy and MNLI matched alone on the LoRA² side, which compares unlike averages: {mixed:.2f}"
