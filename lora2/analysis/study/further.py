"""The experiments around the study: regularisers, weights, ranks, contributions, starts; a table for each that ran.

Jobs that an experiment shares with the study are done once, under the name of whichever came first: each table takes
the plain LoRA² of the same recipe too, and sets the rest beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lora2.analysis.comparison import pooled
from lora2.analysis.figure3 import agreement, panels
from lora2.analysis.methods import method_name
from lora2.analysis.paper import Figure3
from lora2.analysis.stats import MIN_SEEDS, pearson
from lora2.analysis.study.courses_drawn import has_fallen
from lora2.analysis.study.gather import StudyCell, cell_of, counts, is_marked, marked_score, variant_place
from lora2.analysis.study.pairs import paired
from lora2.analysis.study.tables import interval_text, record_link, signed, task_titles
from lora2.common.table import MISSING, Table
from lora2.glue.tasks import TASKS, task_title
from lora2.runs.reader import Run

K1, K8 = ("lora2_k1",), ("lora2_k8",)
PLAIN = (*K1, *K8)
# by model: the recipe, its name in the study and what that takes; and the start of the factors that is not the recipe's
RECIPES = {"minilm": ("short", "short3", "recipe.epochs=3", "paper")}
RECIPE = ("authors_short", "authors_short", "", "orthogonal")
HEADER = (
    "Method", "Tasks", "n", "Score", "95 % interval", "Beside the plain", "95 % interval", "Fallen", "Ranks alike",
    "Kept alike", "Runs, by task and seed",
)  # fmt: skip
NOTES = (
    "Score: best evaluation, mean over tasks of the means over n seeds; interval: Student's t, pooled over tasks. "
    "Fallen: runs that collapsed or diverged.",
    "Beside the plain: the difference to LoRA² of the same k and recipe with nothing changed, paired by seed, over the "
    "tasks of both; where k alone is changed, to the k that is named. Ranks alike: Pearson's correlation of all "
    "matrices' final ranks with the plain one's. Kept alike: the share of the singular values that it keeps which are "
    "kept here too (a seed's start is the same for both). Both are means over tasks and seeds.",
)
WIDTH = re.compile(r"lora2_k\d+")  # a variant that is plain but for its k
Row = tuple[str, str]  # variant, recipe


@dataclass(frozen=True, slots=True)
class Further:
    """One experiment.

    Attributes:
        experiment: its file in configs/experiment.
        title: what it asks.
        plain: the variants of plain LoRA² that the study may have run for it.
        own: what the name of its recipe ends with, where it changes the recipe.
        args: settings of its command; {start} is the other start of the factors.
    """

    experiment: str
    title: str
    plain: tuple[str, ...] = ()
    own: str = ""
    args: str = ""

    def command(self, model: str) -> str:
        """Return what runs it at the values of the study, three seeds."""
        recipe, name, more, start = RECIPES.get(model, RECIPE)
        named = f"recipe.name={name}{self.own}" if self.own or name != recipe else ""
        args = " ".join(filter(None, (self.args.format(start=start), more, named)))
        end = f" ARGS='{args}'" if args else ""
        return f"make sweep EXPERIMENT={self.experiment} MODEL={model} SEEDS=3 RECIPE={recipe}{end}"

    def has(self, run: Run) -> bool:
        """Say whether a run was made for it."""
        others = [each.own for each in FURTHER if each.experiment == self.experiment and each.own]
        mine = run.recipe.endswith(self.own) if self.own else not run.recipe.endswith(tuple(others))
        return run.experiment == self.experiment and mine


FURTHER = (
    Further("table3", "Which regularisers (the paper's Table 3)", K1, args="task=mrpc,stsb,rte"),
    Further("table4", "Which weights (the paper's Table 4)", own="_r8"),
    Further("ablation_contributions", "Each contribution switched off", own="_r8_b3"),
    Further("unpruned", "Pruned or not", PLAIN),
    Further("importance", "Reduced or full score", PLAIN),
    Further("importance_cheap", "Cheaper scores", K8),
    Further("importance_cheap", "Masks of every tenth step", K8, "_every10", "budget.score=reduced budget.interval=10"),
    Further("sweep_k", "Outer width k", PLAIN, args="rank.k=1,2,4,8,16"),
    Further("sweep_k", "The other start of the factors", PLAIN, "_start", "rank.k=1,8 method.init={start}"),
)
FIGURE3 = Further("figure3", "Final ranks beside the paper's Figure 3", args="task=mrpc")


def further_lines(model: str, runs: Sequence[Run], figure: Figure3) -> list[str]:
    """Write what has not run of the further experiments, with its command, and what Figure 3 gave.

    Args:
        model: of the runs.
        runs: every record.
        figure: the paper's Figure 3.
    """
    mine = _usable(model, runs)
    missing = [each for each in FURTHER if not any(map(each.has, mine))]
    lines = [f"{each.title}: not run; `{each.command(model)}`." for each in missing]
    return [*lines, _figure3(model, [run for run in mine if run.status == "ok"], figure)]


def further_tables(model: str, runs: Sequence[Run]) -> list[Table]:
    """Write a table of each further experiment that ran on a model."""
    mine = _usable(model, runs)
    return [_table(each, mine) for each in FURTHER if any(map(each.has, mine))]


def _usable(model: str, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.model == model and counts(run) and not is_marked(run)]


def _table(further: Further, runs: Sequence[Run]) -> Table:
    tried = [run for run in runs if further.has(run)]
    tasks = {run.task for run in tried}
    recipes = {run.recipe.removesuffix(further.own) if further.plain else run.recipe for run in tried}
    plain = [run for run in runs if run.variant in further.plain and run.recipe in recipes and run.task in tasks]
    cells = _cells([*tried, *plain])
    rows = sorted({(variant, recipe) for variant, recipe, _ in cells}, key=lambda row: (row[1], variant_place(row[0])))
    lines = [_line(row, _plain_of(row, rows, further), cells) for row in rows]
    return Table(title=further.title, header=HEADER, rows=tuple(lines), footnotes=NOTES)


def _cells(runs: Sequence[Run]) -> dict[tuple[str, str, str], StudyCell]:
    """The runs of one setting by (variant, recipe, task)."""
    keys = dict.fromkeys((run.variant, run.recipe, run.task) for run in runs)
    return {
        key: cell_of((key[0], key[2]), [run for run in runs if (run.variant, run.recipe, run.task) == key])
        for key in keys
    }


def _of(row: Row, cells: Mapping[tuple[str, str, str], StudyCell]) -> dict[str, StudyCell]:
    return {task: cells[*row, task] for task in TASKS if (*row, task) in cells}


def _plain_of(row: Row, rows: Sequence[Row], further: Further) -> Row | None:
    """The plain LoRA² of a row's k and recipe; for a row that is plain but for its k, the widest; else none."""
    variant, recipe = row[0], row[1].removesuffix(further.own) if further.plain else row[1]
    plain = [(each, recipe) for each in PLAIN if (each, recipe) in rows]
    same = [each for each in plain if _same_k(row, each)]
    wider = plain[-1:] if row[1] == recipe and WIDTH.fullmatch(variant) else []
    found = next(iter([*same, *wider]), row)
    return None if found == row else found


def _same_k(row: Row, plain: Row) -> bool:
    """Say whether a row has the k of a plain one: `lora2_k1_reg-uv` has that of `lora2_k1`, `lora2_k16` has not."""
    return f"{row[0]}_".startswith(f"{plain[0]}_")


def _line(row: Row, plain: Row | None, all_cells: Mapping[tuple[str, str, str], StudyCell]) -> tuple[str, ...]:
    cells = _of(row, all_cells)
    reference = _of(plain, all_cells) if plain else {}
    runs = [run for cell in cells.values() for run in cell.runs]
    scores = [cell.scores() for cell in cells.values()]
    both = [task for task in cells if task in reference]
    gaps = [paired(cells[task], reference[task]) for task in both]
    beside = [*cells.values(), *(reference[task] for task in both)]
    named = (
        f" to {method_name(plain[0]).removeprefix('LoRA² ')}" if plain and all(gaps) and not _same_k(row, plain) else ""
    )
    fallen = sum(map(has_fallen, runs))
    same_seed = _of_one_seed([(cells[task], reference[task]) for task in both])
    return (
        f"{method_name(row[0])} ({row[1]})",
        task_titles(cells),
        str(min(map(len, scores))),
        marked_score(_mean(scores), [*cells.values()]),
        _interval(scores),
        marked_score(signed(_mean(gaps, sign="+")) + named, beside) if gaps else MISSING,
        _interval(gaps),
        f"{fallen} of {len(runs)}",
        _ranks_alike(same_seed),
        _kept_alike(same_seed),
        "; ".join(f"{task_title(task)} {' '.join(map(record_link, cell.runs))}" for task, cell in cells.items()),
    )


def _mean(strata: Sequence[Sequence[float]], sign: str = "") -> str:
    """The mean over tasks of the means over seeds; a dash where a task has none."""
    return f"{np.mean([np.mean(values) for values in strata]):{sign}.2f}" if strata and all(strata) else MISSING


def _interval(strata: Sequence[Sequence[float]]) -> str:
    enough = bool(strata) and all(len(values) >= MIN_SEEDS for values in strata)
    return interval_text(pooled(strata).interval() if enough else None)


def _of_one_seed(pairs: Sequence[tuple[StudyCell, StudyCell]]) -> list[tuple[Run, Run]]:
    return [
        (one, plain) for left, right in pairs for one in left.runs for plain in right.runs if one.seed == plain.seed
    ]


def _ranks_alike(runs: Sequence[tuple[Run, Run]]) -> str:
    """The mean correlation; a dash where neither prunes, or all ranks are equal."""
    found = [
        pearson([float(one.ranks[name]) for name in one.ranks], [float(plain.ranks[name]) for name in one.ranks])
        for one, plain in runs
        if one.ranks and one.ranks.keys() == plain.ranks.keys()
    ]
    known = [value for value in found if value is not None]
    return signed(f"{np.mean(known):.2f}") if known else MISSING


def _kept_alike(runs: Sequence[tuple[Run, Run]]) -> str:
    """The mean share of the singular values that the plain one keeps; a dash where a record does not tell."""
    shares = [
        np.mean(
            [
                mine == "1"
                for name, mask in plain.masks.items()
                for mine, kept in zip(one.masks[name], mask, strict=True)
                if kept == "1"
            ]
        )
        for one, plain in runs
        if plain.masks and _sizes(one) == _sizes(plain)
    ]
    return f"{np.mean(shares):.2f}" if shares else MISSING


def _sizes(run: Run) -> dict[str, int]:
    """How many singular values each matrix began with."""
    return {name: len(mask) for name, mask in run.masks.items()}


def _figure3(model: str, runs: Sequence[Run], figure: Figure3) -> str:
    drawn = [panel for panel in panels(figure, runs, model, "lora2_k8") if panel.ours is not None]
    if not drawn:
        return f"Final ranks beside the paper's Figure 3: not run; `{FIGURE3.command(model)}`."
    told = "; ".join(f"{task_title(panel.task)} ({panel.label}): {agreement(panel)}" for panel in drawn)
    return f"Final ranks of LoRA² k=8 beside the paper's Figure 3: {told}."
