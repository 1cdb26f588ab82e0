"""The claims audit: every checkable sentence of the paper, recomputed, with a verdict and the way it was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora2.analysis.claims import checks as claim_checks
from lora2.analysis.claims import scores as claim_scores
from lora2.analysis.claims.checks import Check, Finding
from lora2.analysis.paper import DEFAULT_FOLDER, PaperClaim, load_claims, load_table
from lora2.common.errors import UserError
from lora2.common.table import Table

TABLES = ("table1", "table2", "table3", "table4", "adalora_table1", "roberta_large")
CHECKS: Mapping[str, Check] = {
    "trainable_share": claim_checks.trainable_share,
    "count_k1": claim_checks.count_k1,
    "count_k8": claim_checks.count_k8,
    "eight_times": claim_checks.eight_times,
    "sensitivity_matrix": claim_checks.sensitivity_matrix,
    "sensitivity_model": claim_checks.sensitivity_model,
    "sensitivity_literal": claim_checks.sensitivity_literal,
    "average_k1": claim_scores.average("lora2_k1"),
    "average_k8": claim_scores.average("lora2_k8"),
    "averages_baselines": claim_scores.averages("table1", baselines=True),
    "averages_table3": claim_scores.averages("table3", baselines=False),
    "averages_table4": claim_scores.averages("table4", baselines=False),
    "rte_margin": claim_scores.rte_margin,
    "margin_k1_lora": claim_scores.margin("lora2_k1", "lora_r1"),
    "margin_k1_sora": claim_scores.margin("lora2_k1", "sora_r1"),
    "margin_k8_lora": claim_scores.margin("lora2_k8", "lora_r8"),
    "margin_k8_sora": claim_scores.margin("lora2_k8", "sora_r8"),
    "k1_beats_r8": claim_scores.k1_beats_r8,
    "test_results": claim_scores.dev_or_test,
    "regulariser_gain": claim_scores.regulariser_gain,
    "slowdown": claim_checks.slowdown,
    "table2_caption": claim_checks.table2_caption,
    "counts_table4": claim_checks.counts_table4,
    "roberta_compression": claim_checks.roberta_compression,
    "roberta_saving": claim_checks.roberta_saving,
    "roberta_four_times": claim_checks.roberta_four_times,
    "roberta_gain": claim_checks.roberta_gain,
}


@dataclass(frozen=True, slots=True)
class Audited:
    """One claim with what the audit found."""

    claim: PaperClaim
    finding: Finding


def audit(folder: Path = DEFAULT_FOLDER) -> list[Audited]:
    """Check every claim of results/paper/claims.yaml.

    Raises:
        UserError: a claim names no check, or a file is damaged.
    """
    claims = load_claims(folder)
    unknown = sorted({claim.check for claim in claims} - set(CHECKS))
    if unknown:
        raise UserError(f"{folder / 'claims.yaml'}: check: got {', '.join(unknown)}, allowed: {', '.join(CHECKS)}")
    papers = {name: load_table(name, folder) for name in TABLES}
    return [Audited(claim, _check(claim, CHECKS[claim.check], papers, folder)) for claim in claims]


def _check(claim: PaperClaim, check: Check, papers: claim_checks.Papers, folder: Path) -> Finding:
    try:
        return check(claim.values, papers)
    except KeyError as error:
        raise UserError(f"{folder}: claim {claim.key} needs the row or value {error}, which is missing") from error


def as_table(audited: Sequence[Audited]) -> Table:
    """Write the audit as one section for lora2.common.rendering."""
    header = ("Claim", "Where", "Recomputed", "Verdict", "How computed")
    rows = tuple(
        (item.claim.claim, item.claim.where, item.finding.recomputed, item.finding.verdict, item.finding.how)
        for item in audited
    )
    sentence = (
        "Arithmetic on the paper's own entries and on layer shapes; no training, no weights. k = outer width, r = "
        "inner rank, d and o = in- and out-features of an adapted matrix."
    )
    source = f"Quoted from: {audited[0].claim.source}." if audited else "No claims."
    title = "Do the paper's numbers follow from the paper?"
    return Table(title=title, header=header, rows=rows, sentences=(_tally(audited), sentence, source))


def tally(audited: Sequence[Audited]) -> dict[str, int]:
    """Count the verdicts of each kind."""
    verdicts = [item.finding.verdict for item in audited]
    return {
        "hold": sum(text == claim_checks.HOLDS for text in verdicts),
        "hold only if …": sum(text.startswith("holds only if") for text in verdicts),
        "do not hold": sum(text.startswith(claim_checks.FAILS) for text in verdicts),
        "cannot be checked": verdicts.count(claim_checks.OPEN),
    }


def _tally(audited: Sequence[Audited]) -> str:
    """How many of each kind, in the words of the verdicts."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally(audited).items())
    return f"{len(audited)} claims: {kinds}."
