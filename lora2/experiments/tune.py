"""The search for each method's own rates: as many trials for every method, scored on a held-out tenth of train.

A trial trains on nine tenths of train and never sees dev. Its score is the task's main metric on the other tenth after
the last step (`last`: no choice among evaluations, and a run that falls apart in the end pays for it), as a mean over
two seeds. LoRA² has a second rate, that of Λ, and pays for it: half as many rates, each with two of Λ's.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.rendering import render
from lora2.common.table import Table
from lora2.common.voice import say
from lora2.config.grid import Job, expand
from lora2.config.identity import IDENTITY_FREE
from lora2.config.tree import flatten
from lora2.experiments.status import OVER, JobStatus, survey
from lora2.experiments.sweep import Start, refuse, run_jobs, state_counts
from lora2.experiments.tuned import Choice, Tuned, write_tuned
from lora2.runs.caveats import FALLEN
from lora2.runs.reader import Run
from lora2.runs.trials import RECIPE, score

TRIALS = 12  # of each method on each task
SEEDS = (0, 1)  # a third one is for the picture: the choice is made by two
# The ends of each method's rates; every grid is logarithmic and as wide as the others, a factor of 40.
RATES = {"full": (5e-6, 2e-4), "bitfit": (2.5e-4, 1e-2)}
LOW_RANK = (1e-4, 4e-3)
LAMBDA_SCALES = (1, 20)  # Λ's rate over that of the other factors: the authors' one, and the short recipe's
SEARCHED = ("recipe.lr", "method.lam_lr_scale", "rank.alpha")  # what a trial's settings differ in from the comparison
PLACES = {*IDENTITY_FREE, "data"}  # sections that change no number
COMPARISONS = {"minilm": "study_minilm"}  # the first comparison, by model; its rows and tasks are what is tuned


def comparison(model: str) -> str:
    """Return the experiment that compares the methods as the authors ran them, on this model."""
    return COMPARISONS.get(model, "study_authors")


def rates(method: str, number: int) -> list[float]:
    """Return a logarithmic grid of learning rates for a method, to two digits.

    >>> rates("lora", 6)
    [0.0001, 0.00021, 0.00044, 0.00091, 0.0019, 0.004]
    """
    low, high = RATES.get(method, LOW_RANK)
    return [float(f"{low * (high / low) ** (i / (number - 1)):.1e}") for i in range(number)]


def searched(method: str, trials: int) -> list[str]:
    """Return the axes of a method's search, as words of a command line; their product has `trials` points.

    LoRA² takes every second rate of the grid that the other low-rank methods have, the upper one of each pair.
    """
    grid, axes = rates(method, trials), []
    if method == "lora2":
        grid, axes = grid[1::2], [f"method.lam_lr_scale=choice({','.join(map(str, LAMBDA_SCALES))})"]
    return [f"recipe.lr=choice({','.join(map(str, grid))})", *axes]


def trial_jobs(
    model: str, overrides: Sequence[str], seeds: int | None = None, trials: int = TRIALS, *, configs: Path
) -> list[Job]:
    """List the trials of every row and task of a model's comparison, a seed after the other.

    Args:
        model: the backbone.
        overrides: further settings for every trial.
        seeds: run the seeds 0 ... seeds - 1 instead of 0 and 1.
        trials: of each method on each task.
        configs: the folder that holds train.yaml and the groups.

    Raises:
        UserError: a number of trials that cannot be shared fairly, or settings that do not hold together.
    """
    if trials < 2 or trials % 2:
        raise UserError(f"--trials: got {trials}; it takes even numbers from 2, for example --trials {TRIALS}")
    asked = [f"model={model}", f"seed={','.join(map(str, SEEDS))}", *overrides]
    fixed = [f"recipe.name={RECIPE}", "selection=heldout"]
    cells: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for job in expand(comparison(model), [*asked, *fixed], seeds, configs=configs):
        cells[job.axes].append(job)
    jobs = [trial for cell in cells.values() for trial in _trials(cell, trials, configs)]
    return sorted(jobs, key=lambda job: job.cfg.seed)


def _trials(cell: Sequence[Job], trials: int, configs: Path) -> list[Job]:
    """The trials of one row and task, whose jobs differ in their seeds."""
    first, rank = cell[0], cell[0].cfg.rank
    shared, axes = first.pinned
    alpha = [] if rank is None else [f"rank.alpha={2 * rank.r}"]  # alpha / r = 2 for every low-rank method
    words = [*shared, *alpha, *axes, *searched(first.cfg.method.name, trials)]
    seed = f"seed=choice({','.join(str(job.cfg.seed) for job in cell)})"
    return expand(first.experiment, [*words, seed], configs=configs)


def tune(model: str, jobs: Sequence[Job], start: Start, train: Path, *, write: bool) -> int:
    """Do the trials that are missing, choose when there are all of them, and return the exit code.

    Args:
        model: the backbone.
        jobs: all trials, as `trial_jobs` lists them.
        start: does one.
        train: the script to name in the command that repeats a failed one.
        write: write what was chosen; otherwise it is only shown.

    Raises:
        UserError: some trials are refused, or all of a method diverged.
    """
    statuses = survey(jobs)
    refuse(statuses)
    say(f"tune {model}: {state_counts(statuses)}")
    code = run_jobs(statuses, start, train)
    statuses = survey(jobs)
    missing = sum(status.state not in OVER for status in statuses)
    if missing:
        say(f"{missing} of {len(statuses)} trials are missing: nothing is chosen; the same command does them")
        return code
    found = choose(model, statuses)
    print(render([as_table(found)], "markdown"), end="")
    if write:
        say(f"written: {write_tuned(found, jobs[0].cfg.results_dir)}")
    return 0


def choose(model: str, statuses: Sequence[JobStatus]) -> Tuned:
    """Choose for each task and row the settings with the best mean score over the first two seeds.

    Of equal ones the first is taken: the lower rate.

    Args:
        model: the backbone.
        statuses: of all trials, all over.

    Raises:
        UserError: every trial of a row and task diverged.
    """
    cells: dict[tuple[str, str], list[JobStatus]] = defaultdict(list)
    for status in statuses:
        cells[status.job.cfg.task, row_of(status.job)].append(status)
    runs = [status.run for status in statuses if status.run is not None]
    return Tuned(
        model=model,
        experiment=comparison(model),
        shared=_shared(statuses[0].job),
        seeds=tuple(sorted({status.job.cfg.seed for status in statuses})),
        choices={cell: _best(cell, trials) for cell, trials in cells.items()},
        clean=all(map(_is_clean, runs)),
    )


def _is_clean(run: Run) -> bool:
    """Whether a trial may be published, as far as its record tells; one that collapsed or diverged may."""
    return set(run.caveats) <= set(FALLEN) and not run.provenance.get("dirty_diff")


def _shared(job: Job) -> tuple[str, ...]:
    """The words of the command line that the chosen settings need too: neither places nor what differs by trial."""
    own = {*SEARCHED, "recipe.name", "selection", "model", "data", "row", "task"}
    keys_of = {word: word.partition("=")[0] for word in job.shared}
    return tuple(word for word, key in keys_of.items() if key not in own and key.split(".")[0] not in PLACES)


def _best(cell: tuple[str, str], trials: Sequence[JobStatus]) -> Choice:
    points: dict[tuple[tuple[str, object], ...], list[Run]] = defaultdict(list)
    for trial in trials:
        assert trial.run is not None
        points[tuple(_values(trial.job).items())].append(trial.run)
    means = {point: _mean(list(map(score, runs[: len(SEEDS)]))) for point, runs in points.items()}
    best = max(means, key=lambda point: means[point])  # the first of equals
    if means[best] == -math.inf:
        raise UserError(
            f"recipe.lr: every trial of {cell[1]} on {cell[0]} diverged; lower the rates of "
            f"lora2/experiments/tune.py until one does not"
        )
    return Choice(
        values=dict(best),
        score=round(means[best], 6),
        trials=len(points),
        records=tuple(sorted(run.run_id for runs in points.values() for run in runs)),
    )


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def _values(job: Job) -> dict[str, object]:
    """What was searched, of a trial: the settings that it has, by dotted path."""
    settings = flatten(job.cfg.model_dump(mode="json"))
    return {path: settings[path] for path in SEARCHED if settings.get(path) is not None}


def row_of(job: Job) -> str:
    """Return the row of a job, by its name in configs/row."""
    words = dict(word.split("=", 1) for word in job.overrides)
    return words.get("row", job.cfg.variant)


def as_table(found: Tuned) -> Table:
    """Lay out what was chosen."""
    rows = tuple(
        (task, row, *(f"{choice.values.get(path, '–')}" for path in SEARCHED), f"{100 * choice.score:.2f}",
         f"{choice.trials} x {len(choice.records) // choice.trials}")
        for (task, row), choice in found.choices.items()
    )  # fmt: skip
    return Table(
        title=f"Chosen for {found.model}",
        header=("Task", "Row", "Rate", "Λ's rate, times", "Alpha", "Held-out score, last", "Trials x seeds"),
        rows=rows,
        footnotes=(f"Mean over the seeds {', '.join(map(str, found.seeds[: len(SEEDS)]))}; dev was not looked at.",),
    )
