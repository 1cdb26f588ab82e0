"""The study's tables: a line for each cell, and a line for each pair of methods of equal size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from lora2.analysis.comparison import MOST_SEEDS, pooled
from lora2.analysis.methods import method_name
from lora2.analysis.stats import MIN_SEEDS, student_interval, summarise
from lora2.analysis.study.courses_drawn import NEAR, Rates, good_range, has_fallen, rate_scores
from lora2.analysis.study.gather import EXPERIMENT, Study, StudyCell, chosen, marked_score
from lora2.analysis.study.pairs import Pair
from lora2.common.table import MISSING, Table
from lora2.glue.tasks import metric_title, task_title
from lora2.runs.caveats import CAVEATS, MARK
from lora2.runs.reader import Run
from lora2.runs.verify.verdict import verification_of

RUNS = "../results/runs"  # from docs/
UNVERIFIED = "°"
CELL_HEADER = (
    "Method", "Task", "Best, mean ± std", "95 % interval", "Median", "Last, mean ± std", "n", "Collapsed",
    "Diverged", "Rate and own values", "Adapter params", "Runs, by seed",
)  # fmt: skip
RATE_HEADER = (
    "Task", "Method", "Best rate", "Held-out score", "Rates as good", "Width", "Fallen", "Trials by seed, at each rate",
)  # fmt: skip
PAIR_HEADER = (
    "LoRA²", "Against", "Tasks", "n", "Difference", "95 % interval", "Bootstrap", "P(ours better)", "Paper's margin",
    "Verdict", "Seeds to decide",
)  # fmt: skip
PAIR_NOTES = (
    "Difference = ours minus theirs in points, best checkpoints, paired by seed; over several tasks their mean.",
    "95 % interval = Student's t, pooled over tasks with Satterthwaite's degrees of freedom. Bootstrap = seeds drawn "
    "anew within each task, which covers about 80 % with two tasks of three seeds. Verdicts use the first.",
    "P(ours better) = probability that a run of ours scores higher than one of theirs, mean over all tasks that both "
    "ran; a run that diverged is below every other, and two that did count half.",
    "Paper's margin = difference of the two rows of its Table 1 over the same tasks, on its own encoder. Supported: "
    "ours lies on that side of zero and may be as large. Contradicted: it is smaller, or on the other side. Undecided: "
    "both zero and the margin lie in the interval.",
    "Seeds to decide: at so many the interval would be short enough, if mean and spread stayed what they are. One task "
    "alone, fewer than three seeds and seeds that diverged get no verdict.",
)
LOST_NOTE = "No seed of both: runs diverged there, so that no seed has two scores to subtract."


def cell_table(study: Study) -> Table:
    """Write one line for each method and task."""
    cells = [cell for variant in study.variants for cell in study.row(variant)]
    notes = [
        "Best = best evaluation of each run, chosen on dev as the paper does; last = after the last step; ± = standard "
        "deviation over n seeds; interval = Student's t of the mean of best."
    ]
    if any(cell.collapsed for cell in cells):
        notes.append(f"{MARK} collapsed: {CAVEATS['collapsed']}. Its score is part of the mean: the method did that.")
    if any(cell.diverged for cell in cells):
        notes.append(
            f"{MARK} diverged: {CAVEATS['diverged']}. Mean, median and interval are of the n others, which flatters "
            "the method."
        )
    if any(not is_verified(run) for run in study.runs if "diverged" not in run.caveats):
        notes.append(f"{UNVERIFIED} not re-derived without this project's code (`make verify RUN=RUN_ID`).")
    if study.left_out:
        notes.append(f"Left out: {left_out_text(study)}.")
    title = f"{study.model}: every method and task"
    return Table(title=title, header=CELL_HEADER, rows=tuple(map(_cell_line, cells)), footnotes=tuple(notes))


def pair_table(model: str, pairs: Sequence[Pair]) -> Table:
    """Write a line for each pair over all tasks, and one for each of its tasks, which gets no verdict alone."""
    rows = [line for pair in pairs for line in _pair_lines(pair)]
    notes = (*PAIR_NOTES, *([LOST_NOTE] if any(pair.lost for pair in pairs) else []))
    return Table(title=f"{model}: methods of equal size", header=PAIR_HEADER, rows=tuple(rows), footnotes=notes)


def rate_table(model: str, rates: Rates) -> Table:
    """Write a line for each method and task of the search: its best rate, and how wide the range of good ones is."""
    rows = [_rate_line(task, variant, found) for task, methods in rates.items() for variant, found in methods.items()]
    notes = (
        "Held-out score: after the last step, mean over seeds, of the best of several settings at a rate; the search "
        "chose by its first two seeds.",
        f"Rates as good: around the best, those whose score is within {NEAR:g} point of its; width: the highest over "
        f"the lowest of them. Fallen ({MARK}): trials that collapsed or diverged.",
    )
    return Table(title=f"{model}: learning rates", header=RATE_HEADER, rows=tuple(rows), footnotes=notes)


def row_commands(study: Study) -> list[str]:
    """Write the command that makes each method's runs again, a line each."""
    return [_row_command(study, variant) for variant in study.variants]


def record_link(run: Run) -> str:
    """Link a run's seed to its record, with the mark of a score that nobody re-derived, or of a run that diverged."""
    if "diverged" in run.caveats:
        return f"{link(run)} {MARK}"
    return f"{link(run)}{'' if is_verified(run) else UNVERIFIED}"


def link(run: Run) -> str:
    """Link a run's seed to its record."""
    return f"[{run.seed}]({RUNS}/{run.run_id}.json)"


def is_verified(run: Run) -> bool:
    """Say whether the run's score was re-derived without this project's code."""
    return verification_of(run) == "verified"


def left_out_text(study: Study) -> str:
    """Write how many runs enter no mean, and why."""
    kinds = [kind for kind in CAVEATS if any(kind in run.caveats for run in study.left_out)]
    return f"{len(study.left_out)} run(s) ({', '.join(kinds) or 'of another setting'})"


def nothing_text(study: Study) -> str:
    """Write that a comparison has no number, and what makes its runs."""
    command = study.comparison.command(study.model)
    if study.left_out:
        return f"No run without a caveat yet, {left_out_text(study)} left out: {command}."
    return f"No runs yet: {command}."


def interval_text(interval: tuple[float, float] | None) -> str:
    """Write `[−1.20, 3.40]`, or a dash."""
    return MISSING if interval is None else signed(f"[{interval[0]:.2f}, {interval[1]:.2f}]")


def signed(text: str) -> str:
    """Write a minus sign where ASCII has a hyphen."""
    return text.replace("-", "−")


def task_titles(tasks: Iterable[str]) -> str:
    """Write `MRPC, RTE`."""
    return ", ".join(map(task_title, tasks))


def tasks_text(pair: Pair) -> str:
    """Write `MRPC; no seed of both: RTE`: tasks with a difference, then those that have none since runs diverged."""
    lost = f"no seed of both: {task_titles(pair.lost)}" if pair.lost else ""
    return "; ".join(filter(None, (task_titles(pair.differences), lost)))


def _cell_line(cell: StudyCell) -> tuple[str, ...]:
    scores, seeds = cell.scores(), len(cell.runs)
    adapter = next((run.counts["adapter"] for run in cell.runs if "adapter" in run.counts), None)
    return (
        method_name(cell.variant),
        f"{task_title(cell.task)} {metric_title(cell.task)}",
        marked_score(summarise(scores).text if scores else MISSING, [cell]),
        interval_text(student_interval(scores) if len(scores) >= MIN_SEEDS else None),
        f"{summarise(scores).median:.2f}" if scores else MISSING,
        summarise(cell.scores("last")).text if scores else MISSING,
        str(len(scores)),
        f"{len(cell.collapsed)} of {seeds}",
        f"{len(cell.diverged)} of {seeds}",
        chosen(cell.runs[0]),
        MISSING if adapter is None else f"{adapter:,}",
        " ".join(map(record_link, cell.runs)),
    )


def _pair_lines(pair: Pair) -> list[tuple[str, ...]]:
    names = (method_name(pair.ours), method_name(pair.theirs))
    found = pair.pooled
    needed = pair.seeds_needed
    whole = (
        *names,
        tasks_text(pair),
        str(pair.seeds),
        signed(f"{pair.mean:+.2f}") if pair.differences else MISSING,
        interval_text(found.interval() if found else None),
        interval_text(pair.bootstrap),
        f"{pair.probability:.2f}",
        signed(f"{pair.margin:+.2f}"),
        f"**{pair.verdict}**",
        MISSING if found is None or pair.diverged else f"over {MOST_SEEDS}" if needed is None else str(needed),
    )
    alone = [
        ("", "", task_title(task), str(len(values)), signed(f"{summarise(values).mean:+.2f}"), _paired(values))
        for task, values in pair.differences.items()
    ]
    return [whole, *((*line, *(MISSING,) * (len(whole) - len(line))) for line in alone if len(pair.differences) > 1)]


def _paired(values: Sequence[float]) -> str:
    return interval_text(pooled([values]).interval() if len(values) >= MIN_SEEDS else None)


def _rate_line(task: str, variant: str, rates: Mapping[float, list[Run]]) -> tuple[str, ...]:
    scores = rate_scores(rates)
    low, high = good_range(rates)
    best = max(scores, key=lambda value: scores[value])
    found = (f"{best:g}", f"{scores[best]:.2f}", f"{low:g} to {high:g}", f"×{high / low:.3g}")
    runs = [run for trials in rates.values() for run in trials]
    return (
        task_title(task),
        method_name(variant),
        *(found if math.isfinite(scores[best]) else (MISSING,) * len(found)),
        f"{sum(map(has_fallen, runs))} of {len(runs)}",
        "; ".join(f"{value:g}: {' '.join(map(_trial_link, trials))}" for value, trials in rates.items()),
    )


def _trial_link(run: Run) -> str:
    """A trial's link, marked where it fell."""
    return f"{link(run)} {MARK}" if has_fallen(run) else link(run)


def _row_command(study: Study, variant: str) -> str:
    runs = [run for cell in study.row(variant) for run in cell.runs]
    data = runs[0].data
    return study.comparison.row_command.format(
        experiment=next((run.experiment for run in runs if run.experiment.startswith(EXPERIMENT)), EXPERIMENT),
        model=study.model,
        row=variant,
        tasks=",".join(cell.task for cell in study.row(variant)),
        seeds=",".join(map(str, sorted({run.seed for run in runs}))),
        data="data=local data.dir=../glue" if data == "local" else f"data={data}",
    )
