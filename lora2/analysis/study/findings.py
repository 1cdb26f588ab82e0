"""What the study found, in sentences that rules make of the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lora2.analysis.methods import method_name
from lora2.analysis.study.gather import PAIRS, SHARED, TUNED, Study, StudyCell
from lora2.analysis.study.pairs import Pair
from lora2.analysis.study.tables import signed, task_titles
from lora2.glue.tasks import task_title

UNJUDGED = ("one task", "too few seeds", "seeds diverged")
Judged = Mapping[str, tuple[Study, Sequence[Pair]]]  # by the comparison's key


def findings(model: str, judged: Judged, seconds: Mapping[str, float]) -> list[str]:
    """Write five sentences: k=1 and k=8 at the shared rate, each at its best, the paper's margins, collapses and cost.

    Args:
        model: that was trained.
        judged: both comparisons and their pairs.
        seconds: of a step, by variant, timed side by side.
    """
    shared, tuned = judged[SHARED.key], judged[TUNED.key]
    at_best = " ".join(_against(ours, tuned[1]) for ours in PAIRS if _of(ours, tuned[1]))
    unrun = f"{'no pair' if tuned[0].cells else 'not run'} yet; {TUNED.command(model)}."
    return [
        *(_sentence(f"{SHARED.when} {_against(ours, shared[1])}") for ours in PAIRS),
        _sentence(f"{TUNED.when}, {at_best}" if at_best else f"{TUNED.when}: {unrun}"),
        _margins([pair for _, pairs in judged.values() for pair in pairs]),
        f"{_falls([study for study, _ in judged.values()])} {_cost(seconds)}",
    ]


def pair_clause(pair: Pair) -> str:
    """Say where ours stands to one method of its size: above, behind, not told apart; unjudged, how far, or why not."""
    found = pair.pooled
    theirs, mean = method_name(pair.theirs), signed(f"{pair.mean:+.2f}")
    if not pair.differences:
        return f"not compared with {theirs} (no seed of both has a score; diverged: {_diverged(pair)})"
    lost = f"; no seed of both on {task_titles(pair.lost)}" if pair.lost else ""
    if found is None:
        return f"at {mean} against {theirs} (one seed{lost})"
    low, high = found.interval()
    between = signed(f"{low:.2f} to {high:.2f}")
    if pair.verdict in UNJUDGED:
        return f"at {mean} against {theirs} ({between}; {pair.verdict}{lost})"
    if low > 0.0:
        return f"{pair.mean:.2f} points above {theirs} ({between})"
    if high < 0.0:
        return f"{-pair.mean:.2f} points behind {theirs} ({between})"
    return f"not told apart from {theirs} ({mean}, {between})"


def seeds_clause(pairs: Sequence[Pair]) -> str:
    """Write over which tasks and how many seeds pairs were made."""
    tasks = list(dict.fromkeys(task for pair in pairs for task in pair.differences or pair.lost))
    counts = sorted({len(values) for pair in pairs for values in pair.strata} or {0})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{task_titles(tasks)}; {seeds} seed{'' if counts == [1] else 's'}"


def _diverged(pair: Pair) -> str:
    """Write how many runs of each method diverged, of those on the tasks of both: `LoRA r=8 3 of 6`."""
    told = []
    for variant, cells in zip((pair.ours, pair.theirs), zip(*pair.cells.values(), strict=True), strict=True):
        if lost := sum(len(cell.diverged) for cell in cells):
            told.append(f"{method_name(variant)} {lost} of {sum(len(cell.runs) for cell in cells)}")
    return ", ".join(told)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _of(ours: str, pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair.ours == ours]


def _against(ours: str, pairs: Sequence[Pair]) -> str:
    mine = _of(ours, pairs)
    if not mine:
        return f"{method_name(ours)} has not run beside a method of its size."
    return f"{method_name(ours)} is {'; '.join(map(pair_clause, mine))} ({seeds_clause(mine)})."


def _margins(pairs: Sequence[Pair]) -> str:
    verdicts = Counter(pair.verdict for pair in pairs)
    if not pairs:
        return "None of the paper's margins could be judged."
    told = ", ".join(
        f"{count} {f'not judged ({verdict})' if verdict in UNJUDGED else verdict}"
        for verdict, count in sorted(verdicts.items())
    )
    needed = [pair.seeds_needed for pair in pairs if pair.verdict == "undecided"]
    known = [seeds for seeds in needed if seeds is not None]
    more = f" (the nearest would need {min(known)} seeds)" if known else ""
    return f"Of {len(pairs)} margins of the paper's Table 1, over the tasks that ran: {told}{more}."


def _falls(studies: Sequence[Study]) -> str:
    """Count the runs that collapsed and those that diverged, and say of which method and task they were."""
    runs = [run for study in studies for run in study.runs]
    cells = [cell for study in studies for cell in study.cells.values()]
    told = [
        f"{where.total()} of {len(runs)} runs {what}: {', '.join(f'{cell} {count}' for cell, count in where.items())}."
        for what, where in (
            ("collapsed to one prediction", _places(cell for cell in cells for _ in cell.collapsed)),
            ("diverged, without a score", _places(cell for cell in cells for _ in cell.diverged)),
        )
        if where
    ]
    return " ".join(told) or f"None of {len(runs)} runs collapsed or diverged."


def _places(cells: Iterable[StudyCell]) -> Counter[str]:
    return Counter(f"{method_name(cell.variant)} on {task_title(cell.task)}" for cell in cells)


def _cost(seconds: Mapping[str, float]) -> str:
    ratios = [
        f"{seconds[ours] / seconds[theirs]:.2f} of {method_name(theirs)}'s"
        for ours in ("lora2_k8",)
        for theirs in PAIRS[ours]
        if ours in seconds and theirs in seconds
    ]
    if not ratios:
        return "No step was timed side by side."
    return f"A step of {method_name('lora2_k8')} takes {', '.join(ratios)}."
