"""One function per claim of results/paper/claims.yaml: what the number should be, from shapes and from the paper's
own entries.

No result is written here: every number in a finding is computed from lora2/core/counts.py or read from results/paper. A
printed margin counts as kept when it is met to 0.01, as both its sides are rounded to two decimals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lora2.analysis.paper import PaperRow, PaperTable
from lora2.core.counts import (
    DEBERTA_V3_BASE,
    ROBERTA_LARGE,
    lora2_parameters,
    lora_parameters,
    share_without_large,
    share_without_small,
)
from lora2.core.matrices import ATTENTION, FFN, MATRICES

HOLDS = "holds"
FAILS = "does not hold"
OPEN = "cannot be checked"
TOLERANCE = 0.01 + 1e-9
R = 8  # the inner rank that Table 4's counts fix (counts_table4 shows it)
SCALE = {"k": 1e3, "M": 1e6}
WITHOUT_OUTPUT = tuple(matrix for matrix in MATRICES if matrix != "attn_output")


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audit says about one claim."""

    recomputed: str
    verdict: str
    how: str


Values = Mapping[str, float]
Papers = Mapping[str, PaperTable]
Check = Callable[[Values, Papers], Finding]


def only_if(condition: str) -> str:
    """Return the verdict between holds and does not hold."""
    return f"holds only if {condition}"


def printed_count(text: str) -> float:
    """Read a printed number of parameters.

    >>> printed_count("37.4k"), printed_count("1.33M")
    (37400.0, 1330000.0)
    """
    return float(text[:-1]) * SCALE[text[-1]]


def matches_print(count: float, text: str) -> bool:
    """Say whether `count` rounds to the printed `text`."""
    decimals = len(text[:-1].partition(".")[2])
    return f"{count / SCALE[text[-1]]:.{decimals}f}" == text[:-1]


def trainable_share(values: Values, papers: Papers) -> Finding:
    """Divide the printed counts of k=1 and k=8 by the printed count of full fine-tuning."""
    rows = papers["table1"].rows
    shares = {k: 100 * _params(rows[f"lora2_k{k}"]) / _params(rows["full"]) for k in (1, 8)}
    exact = 100 * lora2_parameters(DEBERTA_V3_BASE, 8, R) / _params(rows["full"])
    good = [k for k, share in shares.items() if f"{share:.2f}" == f"{values['percent']:.2f}"]
    text = f"{shares[1]:.3f} % (k=1), {shares[8]:.3f} % (k=8); from shapes at k=8, r={R}: {exact:.3f} %"
    return Finding(text, _one_of("k", good), f"#Params of Table 1: {rows['lora2_k8'].params} / {rows['full'].params}")


def count_k1(values: Values, papers: Papers) -> Finding:
    """Count k=1 over all six matrix types."""
    return _count(1, papers["table1"].rows["lora2_k1"])


def count_k8(values: Values, papers: Papers) -> Finding:
    """Count k=8 over all six matrix types."""
    return _count(8, papers["table1"].rows["lora2_k8"])


def eight_times(values: Values, papers: Papers) -> Finding:
    """Take the ratio of the printed and of the exact counts."""
    rows = papers["table1"].rows
    printed = _params(rows["lora_r8"]) / _params(rows["lora2_k1"])
    exact = lora_parameters(DEBERTA_V3_BASE, 8) / lora2_parameters(DEBERTA_V3_BASE, 1, R)
    good = round(printed) == round(exact) == values["ratio"]
    how = f"LoRA r=8 over LoRA² k=1: {rows['lora_r8'].params} / {rows['lora2_k1'].params}, and r(d+o) over k(d+o)+2kr+r"
    return Finding(f"{printed:.1f} from the printed counts, {exact:.2f} from shapes", HOLDS if good else FAILS, how)


def sensitivity_matrix(values: Values, papers: Papers) -> Finding:
    """Take one attention matrix, keeping the two k×r factors and Λ."""
    share = 100 * share_without_large(DEBERTA_V3_BASE, 1, R, ["query"])
    good = f"{share:.1f}" == f"{values['percent']:.1f}"
    condition = f"one 768×768 matrix, k=1, r={R}, and the two large projections are the ones left out"
    how = "k(d+o) / [k(d+o)+2kr+r]: entries of the two large projections, which the released code does not score"
    return Finding(f"{share:.2f} %", only_if(condition) if good else FAILS, how)


def sensitivity_model(values: Values, papers: Papers) -> Finding:
    """Take the same share over matrix types and over k."""
    cases = [
        ("all six, k=1", 1, MATRICES),
        ("FFN, k=1", 1, FFN),
        ("attention, k=8", 8, ATTENTION),
        ("all six, k=8", 8, MATRICES),
    ]
    shares = {name: 100 * share_without_large(DEBERTA_V3_BASE, k, R, matrices) for name, k, matrices in cases}
    text = ", ".join(f"{share:.2f} % ({name})" for name, share in shares.items())
    good = all(f"{share:.1f}" == f"{values['percent']:.1f}" for share in shares.values())
    more = all(share > values["percent"] for share in shares.values())
    verdict = HOLDS if good else only_if("read as a lower bound: every share is larger") if more else FAILS
    return Finding(text, verdict, f"as above, summed over the adapted matrices, r={R}")


def sensitivity_literal(values: Values, papers: Papers) -> Finding:
    """Drop u and 𝒰, which by eq. 4 are the small matrices."""
    matrix, model = (100 * share_without_small(DEBERTA_V3_BASE, 1, R, names) for names in (["query"], MATRICES))
    good = f"{matrix:.1f}" == f"{values['percent']:.1f}"
    how = "2kr / [k(d+o)+2kr+r], k=1: eq. 9 drops u and 𝒰, which eq. 4 gives the shapes (k, r) and (r, k)"
    return Finding(f"{matrix:.2f} % (768×768 matrix), {model:.2f} % (all six)", HOLDS if good else FAILS, how)


def counts_table4(values: Values, papers: Papers) -> Finding:
    """Compute Table 4's counts for several r: they single one out."""
    rows = papers["table4"].rows.values()
    fits = [r for r in range(1, 17) if all(matches_print(_subset(row, r), row.params or "") for row in rows)]
    text = " / ".join(f"{_subset(row, R):,}" for row in rows)
    fitting = ", ".join(map(str, fits)) or "none"
    how = f"Σ [k(d+o)+2kr+r], k=1, r={R}; of r = 1 to 16 these fit every printed count: {fitting}"
    return Finding(text, HOLDS if R in fits else FAILS, how)


def roberta_compression(values: Values, papers: Papers) -> Finding:
    """Take one minus the ratio of the two counts in the same sentence."""
    rate = 100 * (1 - values["adapter_millions"] / values["full_millions"])
    good = f"{rate:.2f}" == f"{values['percent']:.2f}"
    how = f"1 − {values['adapter_millions']:g}M / {values['full_millions']:g}M, the two counts of the same sentence"
    return Finding(f"{rate:.2f} %", HOLDS if good else FAILS, how)


def roberta_saving(values: Values, papers: Papers) -> Finding:
    """Take LoRA² k=1 from LoRA (query, value; r=8), with and without the attention output."""
    lora = lora_parameters(ROBERTA_LARGE, 8, ["query", "value"])
    savings = [lora - lora2_parameters(ROBERTA_LARGE, 1, R, matrices) for matrices in (MATRICES, WITHOUT_OUTPUT)]
    good = any(f"{saving / 1e6:.2f}" == f"{values['millions']:.2f}" for saving in savings)
    text = f"{savings[0] / 1e6:.2f}M (six matrices), {savings[1] / 1e6:.2f}M (without the attention output)"
    how = f"LoRA on query and value, r=8: {lora:,}; LoRA² k=1, r={R}: {lora - savings[0]:,} or {lora - savings[1]:,}"
    return Finding(text, HOLDS if good else FAILS, how)


def roberta_four_times(values: Values, papers: Papers) -> Finding:
    """Divide every baseline count that the same authors print by the claimed 0.4M."""
    rows = [row for row in papers["roberta_large"].rows.values() if row.params]
    ratios = {row.paper_name: _params(row) / (values["adapter_millions"] * 1e6) for row in rows}
    good = [name for name, ratio in ratios.items() if round(ratio) == values["ratio"]]
    text = ", ".join(f"{ratio:.1f} ({name})" for name, ratio in ratios.items())
    verdict = only_if(f"the unnamed baseline is {', '.join(good)}") if good else f"{FAILS} for any baseline we know"
    return Finding(
        text,
        verdict,
        f"#Params of DCFT's RoBERTa-large table / {values['adapter_millions']:g}M; the baseline is not named",
    )


def roberta_gain(values: Values, papers: Papers) -> Finding:
    """Say that there is nothing to subtract from."""
    average = papers["roberta_large"].rows["lora_r8_modules-qv"].recomputed
    text = f"would need an average of {average + values['margin']:.2f}"
    return Finding(
        text,
        OPEN,
        f"no score is printed; LoRA's average in DCFT's table is {average:.2f}, ours to add {values['margin']:g}",
    )


def slowdown(values: Values, papers: Papers) -> Finding:
    """Divide LoRA² by AdaLoRA, task by task, and take the mean."""
    rows = papers["table2"].rows
    slower = [
        100 * (rows["lora2_k8"].scores[t]["seconds_per_step"] / ada["seconds_per_step"] - 1)
        for t, ada in rows["adalora_r8"].scores.items()
    ]
    text = f"LoRA² is {sum(slower) / len(slower):.1f} % slower ({min(slower):.1f} to {max(slower):.1f} %)"
    faster = all(percent <= 0 for percent in slower)
    return Finding(
        text,
        HOLDS if faster else f"{FAILS} as a saving of time",
        f"mean of the {len(slower)} ratios of Table 2, minus 1",
    )


def table2_caption(values: Values, papers: Papers) -> Finding:
    """Count the columns of the table."""
    number = len(papers["table2"].columns)
    how = (
        "columns of Table 2; its unit is s/it where the caption says per epoch, its average row holds parameter counts"
    )
    return Finding(f"{number} datasets", HOLDS if number == values["datasets"] else FAILS, how)


def _count(k: int, row: PaperRow) -> Finding:
    """LoRA² counts at r=8 and r=4 against one printed count."""
    counts = {r: lora2_parameters(DEBERTA_V3_BASE, k, r) for r in (R, 4)}
    fits = [r for r, count in counts.items() if matches_print(count, row.params or "")]
    verdict = HOLDS if R in fits else _one_of("r", fits)
    text = ", ".join(f"{count:,} (r={r})" for r, count in counts.items())
    return Finding(
        text, verdict, f"Σ over 72 matrices of k(d+o)+2kr+r, k={k}; printed {row.params}; Table 4 fixes r={R}"
    )


def _one_of(name: str, fits: list[int]) -> str:
    return only_if(f"{name} = {' or '.join(map(str, fits))}") if fits else FAILS


def _subset(row: PaperRow, r: int) -> int:
    return lora2_parameters(DEBERTA_V3_BASE, 1, r, row.matrices)


def _params(row: PaperRow) -> float:
    return printed_count(row.params or "")
