"""A model's study: the methods as the authors ran them, and each at its best. `make study` does what is missing.

The second comparison has the rows and tasks of the first, the settings that `make tune` has chosen, and seeds that no
trial has seen.
"""

from collections.abc import Sequence
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.voice import say
from lora2.config.grid import Job, expand
from lora2.experiments.sweep import Start, run_experiment
from lora2.experiments.tune import comparison, row_of
from lora2.experiments.tuned import Choice, Tuned, read_tuned

FRESH = 10  # the first of the fresh seeds
SEEDS = 5
RECIPE = "tuned"  # the name in the records
PAGE = Path("docs", "STUDY.md")


def study_jobs(model: str, overrides: Sequence[str], seeds: int | None = None, *, configs: Path) -> list[Job]:
    """List the jobs of both comparisons, a seed of each after the other.

    Args:
        model: the backbone.
        overrides: further settings for every job.
        seeds: of each comparison, instead of the first one's own and five.
        configs: the folder that holds train.yaml and the groups.

    Raises:
        UserError: nothing was chosen for a row and task, a seed is not fresh, or settings do not hold together.
    """
    first = expand(comparison(model), [f"model={model}", *overrides], seeds, configs=configs)
    found = read_tuned(first[0].cfg.results_dir, model)
    jobs = [*first, *_tuned_jobs(first, found, range(FRESH, FRESH + (seeds or SEEDS)), configs)]
    return sorted(jobs, key=lambda job: job.cfg.seed % FRESH)


def run_study(model: str, jobs: Sequence[Job], start: Start, train: Path) -> int:
    """Do what is missing of a study, say where its page is, and return the exit code.

    Raises:
        UserError: some jobs are refused; none has been started.
    """
    code = run_experiment(f"study {model}", jobs, start, train)
    say(f"the study's page: {PAGE}; `make publish` takes clean runs into it")
    return code


def _tuned_jobs(first: Sequence[Job], found: Tuned, seeds: Sequence[int], configs: Path) -> list[Job]:
    """The second comparison's jobs.

    Args:
        first: the jobs of the first one, whose rows and tasks these have.
        found: what was chosen for them.
        seeds: fresh ones.
        configs: as in `study_jobs`.
    """
    if used := set(seeds) & set(found.seeds):
        raise UserError(
            f"seed: the trials of {found.model} have used {', '.join(map(str, sorted(used)))}; the study needs seeds "
            f"that no trial has used: fewer SEEDS for make tune"
        )
    cells = {(job.cfg.task, row_of(job)): job for job in first}
    if lacking := [f"{row} on {task}" for task, row in cells if (task, row) not in found.choices]:
        raise UserError(
            f"results/tuned/{found.model}.yaml: nothing is chosen for {', '.join(lacking)}; every row and task "
            f"of the study needs a choice: make tune MODEL={found.model}, or fewer rows: ARGS=row=lora2_k8,lora_r8"
        )
    return [job for cell, one in cells.items() for job in _cell_jobs(one, found, found.choices[cell], seeds, configs)]


def _cell_jobs(one: Job, found: Tuned, choice: Choice, seeds: Sequence[int], configs: Path) -> list[Job]:
    """The jobs of one row and task; `one` is a job of it in the first comparison."""
    shared, axes = one.pinned
    values = [f"{path}={value}" for path, value in choice.values.items()]
    name = f"recipe.name=choice({RECIPE})"  # an axis, so that names and tables tell the two comparisons apart
    words = [*found.shared, *shared, *values, *axes, name]
    seed = f"seed=choice({','.join(map(str, seeds))})"
    return expand(one.experiment, [*words, seed], configs=configs)
