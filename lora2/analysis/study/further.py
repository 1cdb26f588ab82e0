"""The experiments around the study, a line each: regularisers, weights, ranks, contributions, starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora2.analysis.figure3 import agreement, panels
from lora2.analysis.methods import method_name
from lora2.analysis.paper import Figure3
from lora2.analysis.study.gather import is_marked
from lora2.analysis.study.tables import record_link, task_titles
from lora2.glue.tasks import TASKS, task_title
from lora2.runs.reader import Run

EXPERIMENTS = {
    "table3": "Which regularisers (the paper's Table 3)",
    "table4": "Which weights (the paper's Table 4)",
    "ablation_contributions": "Each contribution switched off",
    "unpruned": "Pruned or not",
    "importance": "Reduced or full score",
    "importance_cheap": "Cheaper scores",
    "sweep_k": "Outer width k",
    "init": "The start of the factors",
}


def further_lines(model: str, runs: Sequence[Run], figure: Figure3) -> list[str]:
    """Write what each further experiment gave on a model, or the command that runs it.

    Args:
        model: of the runs.
        runs: every record.
        figure: the paper's Figure 3.
    """
    mine = [run for run in runs if run.model == model and run.status == "ok" and not is_marked(run)]
    lines = [_line(name, title, model, mine) for name, title in EXPERIMENTS.items()]
    return [*lines, _figure3(model, mine, figure)]


def _line(name: str, title: str, model: str, runs: Sequence[Run]) -> str:
    mine = [run for run in runs if run.experiment == name]
    if not mine:
        return f"{title}: not run; `make sweep EXPERIMENT={name} MODEL={model}`."
    tasks = [task for task in TASKS if any(run.task == task for run in mine)]
    variants = sorted({run.variant for run in mine})
    return f"{title}: {'; '.join(_mean(variant, tasks, mine) for variant in variants)} ({task_titles(tasks)})."


def _mean(variant: str, tasks: Sequence[str], runs: Sequence[Run]) -> str:
    """The mean over tasks of the means over runs, where every task has one."""
    mine = [run for run in runs if run.variant == variant]
    scores = {task: [run.value(run.main) for run in mine if run.task == task] for task in tasks}
    known = {task: [value for value in values if value is not None] for task, values in scores.items()}
    links = " ".join(map(record_link, mine))
    if not all(known.values()):
        return f"{method_name(variant)} not on every task ({links})"
    return f"{method_name(variant)} {np.mean([np.mean(values) for values in known.values()]):.2f} ({links})"


def _figure3(model: str, runs: Sequence[Run], figure: Figure3) -> str:
    drawn = [panel for panel in panels(figure, runs, model, "lora2_k8") if panel.ours is not None]
    if not drawn:
        return f"Final ranks beside the paper's Figure 3: not run; `make sweep EXPERIMENT=figure3 MODEL={model}`."
    told = "; ".join(f"{task_title(panel.task)} ({panel.label}): {agreement(panel)}" for panel in drawn)
    return f"Final ranks of LoRA² k=8 beside the paper's Figure 3: {told}."
