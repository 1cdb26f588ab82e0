"""The records of a study, sorted: which runs stand behind each (method, task) of a comparison.

A study is made per model, of runs whose recipe says which comparison they belong to. A run with a caveat never enters a
mean, but for one that collapsed: that is what the method did, so its score counts, and it is counted. One that diverged
has no score; it is counted, and what is said of the others is marked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lora2.common.table import MISSING
from lora2.glue.tasks import TASKS
from lora2.runs.caveats import FALLEN, MARK
from lora2.runs.format import Checkpoint
from lora2.runs.reader import Run
from lora2.runs.trials import RECIPE, score

VARIANTS = (  # the paper's Table 1, equal sizes together
    "full",
    "bitfit",
    "lora2_k1",
    "lora_r1",
    "adalora_r2",
    "sora_r1",
    "lora2_k8",
    "lora_r8",
    "adalora_r8",
    "sora_r8",
)
PAIRS = {  # LoRA² -> methods of its size
    "lora2_k1": ("lora_r1", "adalora_r2", "sora_r1"),
    "lora2_k8": ("lora_r8", "adalora_r8", "sora_r8"),
}
LOW_RANK = ("lora2", "lora", "adalora", "sora")
EXPERIMENT = "study"  # what the name of each of the study's experiments begins with


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question of the study.

    Attributes:
        key: in the names of pictures.
        title: of its section; `when` says the same within a sentence.
        recipes: the names that its runs' recipes have.
        commands: that make its runs, by model; under "" those of every other model.
        row_command: that makes one method's runs again.
    """

    key: str
    title: str
    when: str
    recipes: tuple[str, ...]
    commands: Mapping[str, tuple[str, ...]]
    row_command: str

    def command(self, model: str) -> str:
        """Return what makes its runs, to stand in a sentence."""
        return " and ".join(f"`{line}`" for line in self.commands.get(model, self.commands[""])).format(model=model)


SHARED = Comparison(
    key="shared",
    title="As the authors ran it: one shared rate",
    when="at one shared rate",
    recipes=("authors_short", "short3"),
    commands={
        "minilm": ("make sweep EXPERIMENT=study_minilm",),
        "": ("make sweep EXPERIMENT=study_authors MODEL={model}",),
    },
    row_command="python scripts/experiment.py run {experiment} --model {model} row={row} task={tasks} seed={seeds} "
    "{data}",
)
TUNED = Comparison(
    key="tuned",
    title="Each method at its best",
    when="each method at its best",
    recipes=("tuned",),
    commands={"": ("make tune MODEL={model}", "make study MODEL={model}")},
    row_command="python scripts/experiment.py study --model {model} row={row} task={tasks} {data}",
)
COMPARISONS = (SHARED, TUNED)


@dataclass(frozen=True, slots=True)
class StudyCell:
    """One method on one task: a run for each seed, all of one setting, by seed; those that fell are among them."""

    variant: str
    task: str
    runs: tuple[Run, ...]

    def scores(self, checkpoint: Checkpoint = "best") -> list[float]:
        """List the task's main metric in percent, (n,) by seed."""
        return list(self.by_seed(checkpoint).values())

    def ordered(self) -> list[float]:
        """List the scores of all runs, (n,), to be compared, not averaged: one that diverged is below every other."""
        return [*self.scores(), *(-math.inf for _ in self.diverged)]

    def by_seed(self, checkpoint: Checkpoint = "best") -> dict[int, float]:
        """Return the task's main metric in percent by seed; a run without it is missing."""
        found = {run.seed: run.value(TASKS[self.task].main_metric, checkpoint) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}

    @property
    def collapsed(self) -> tuple[Run, ...]:
        """List the runs that gave one prediction for all examples."""
        return tuple(run for run in self.runs if "collapsed" in run.caveats)

    @property
    def diverged(self) -> tuple[Run, ...]:
        """List the runs that ended without a score, since a number was not finite."""
        return tuple(run for run in self.runs if "diverged" in run.caveats)


@dataclass(frozen=True, slots=True)
class Study:
    """One comparison on one model.

    Attributes:
        cells: by (variant, task); the variants in the order of VARIANTS, others behind them by name.
        left_out: runs that have a caveat, or are of another setting than their cell.
    """

    model: str
    comparison: Comparison
    cells: Mapping[tuple[str, str], StudyCell]
    left_out: tuple[Run, ...]

    @property
    def variants(self) -> tuple[str, ...]:
        """List the methods that ran."""
        return tuple(dict.fromkeys(variant for variant, _ in self.cells))

    @property
    def tasks(self) -> tuple[str, ...]:
        """List the tasks that ran, in GLUE's order."""
        return tuple(task for task in TASKS if any(task == known for _, known in self.cells))

    @property
    def runs(self) -> tuple[Run, ...]:
        """List every run behind a number."""
        return tuple(run for cell in self.cells.values() for run in cell.runs)

    def row(self, variant: str) -> list[StudyCell]:
        """List the cells of one method, in the order of the tasks."""
        return [self.cells[variant, task] for task in self.tasks if (variant, task) in self.cells]


def gather(model: str, comparison: Comparison, runs: Iterable[Run]) -> Study:
    """Sort the runs of one comparison on one model into cells.

    Args:
        model: of the runs.
        comparison: which of them.
        runs: every record; a run belongs to the study if its setting is one that an experiment of the study ran.
    """
    mine = [run for run in runs if run.model == model and run.recipe in comparison.recipes and counts(run)]
    settings = {run.setting_id for run in mine if run.experiment.startswith(EXPERIMENT)}
    mine = [run for run in mine if run.setting_id in settings]
    clean = [run for run in mine if not is_marked(run)]
    keys_of = {(run.variant, run.task) for run in clean}
    cells = {
        key: cell_of(key, [run for run in clean if (run.variant, run.task) == key])
        for key in sorted(keys_of, key=_place)
    }
    used = {run.run_id for cell in cells.values() for run in cell.runs}
    left_out = tuple(run for run in mine if run.run_id not in used)
    return Study(model=model, comparison=comparison, cells=cells, left_out=left_out)


def trials(model: str, runs: Iterable[Run]) -> list[Run]:
    """List the trials of one model's search that ended or diverged: scored on held-out rows of train, not on dev."""
    return [
        run
        for run in runs
        if run.model == model
        and run.recipe == RECIPE
        and ("diverged" in run.caveats or (run.status == "ok" and run.history.get("eval")))
        and run.resolved.get("selection") == "heldout"
        and not is_marked(run)
    ]


def trial_score(run: Run) -> float:
    """Return a trial's held-out score after its last step, in percent, as the search does; −inf if it diverged."""
    return 100.0 * score(run)


def studied_models(runs: Iterable[Run]) -> list[str]:
    """List the models that an experiment of the study ran, by name."""
    recipes = {recipe for comparison in COMPARISONS for recipe in comparison.recipes}
    return sorted({run.model for run in runs if run.recipe in recipes and run.experiment.startswith(EXPERIMENT)})


def devices_text(runs: Iterable[Run]) -> str:
    """Name the devices of runs; a dash for one whose record does not tell."""
    return ", ".join(sorted({str(run.provenance.get("device") or MISSING) for run in runs}))


def is_marked(run: Run) -> bool:
    """Say whether a run has a caveat that keeps it out of every mean."""
    return not set(run.caveats) <= set(FALLEN)


def rate(run: Run) -> float | None:
    """Return the learning rate of a run; None where the record does not tell."""
    value = run.resolved.get("recipe", {}).get("lr")
    return None if value is None else float(value)


def chosen(run: Run) -> str:
    """Write the values that a method was run at: rate, α/r of low-rank ones, and LoRA²'s factor of Λ's rate."""
    found = rate(run)
    parts = ["–" if found is None else f"{found:g}"]
    rank = run.resolved.get("rank") or {}
    if run.method in LOW_RANK and rank.get("alpha") and rank.get("r"):
        parts.append(f"α/r {rank['alpha'] / rank['r']:g}")
    if run.method == "lora2":
        parts.append(f"Λ ×{run.resolved.get('method', {}).get('lam_lr_scale', 1):g}")
    return ", ".join(parts)


def variant_place(variant: str) -> tuple[int, str]:
    """Return what variants are sorted by: Table 1's order, equal sizes together, then others by name."""
    return VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS), variant


def marked_score(text: str, cells: Sequence[StudyCell]) -> str:
    """Put the mark behind a number that a collapsed run is part of, or that lacks one that diverged."""
    return f"{text} {MARK}" if any(cell.collapsed or cell.diverged for cell in cells) else text


def counts(run: Run) -> bool:
    """Return whether a run ended and has the number by which it is compared, or diverged."""
    if run.task not in TASKS:
        return False
    return "diverged" in run.caveats or (run.status == "ok" and run.value(TASKS[run.task].main_metric) is not None)


def cell_of(key: tuple[str, str], runs: Sequence[Run]) -> StudyCell:
    """Return the cell of runs of one method and task, (variant, task).

    It has the setting with most seeds, of equals the first by its id, and of each seed the first run by its name.
    """
    settings: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: run.run_id):
        settings.setdefault(run.setting_id, {}).setdefault(run.seed, run)
    seeds = min(settings.items(), key=lambda item: (-len(item[1]), item[0]))[1]
    return StudyCell(*key, tuple(seeds[seed] for seed in sorted(seeds)))


def _place(key: tuple[str, str]) -> tuple[tuple[int, str], int]:
    variant, task = key
    return variant_place(variant), list(TASKS).index(task)
