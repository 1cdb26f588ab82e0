"""What a sweep has led to: a line for each method, a column for each task, mean ± standard deviation over seeds."""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from lora2.common.table import MISSING, Table
from lora2.config.grid import Job
from lora2.experiments.status import OVER, JobStatus
from lora2.glue.tasks import TASKS
from lora2.runs.caveats import CAVEATS, MARK, marked
from lora2.runs.cells import choose
from lora2.runs.reader import Run, mark_other_versions


def method_of(job: Job) -> str:
    """Name what tells the lines of an experiment's table apart."""
    axes = [axis.removeprefix("row=") for axis in job.axes if not axis.startswith("task=")]
    return " ".join(axes) or job.cfg.variant


def results_table(name: str, statuses: Sequence[JobStatus]) -> Table:
    """Build the table of the main metric, best evaluation, in print units; a cell without a run has a dash."""
    tasks = list(dict.fromkeys(status.job.cfg.task for status in statuses))
    done = [(status.job, status.run) for status in statuses if status.state in OVER and status.run is not None]
    cells: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for (job, _), run in zip(done, mark_other_versions([run for _, run in done]), strict=True):
        cells[method_of(job), job.cfg.task].append(run)
    methods = list(dict.fromkeys(method_of(status.job) for status in statuses))
    kinds = {kind for runs in cells.values() for kind in choose(runs).caveats}
    return Table(
        title=f"Results of {name}",
        header=("Method", *(f"{TASKS[task].title} {TASKS[task].main_metric}" for task in tasks)),
        rows=tuple((method, *(_text(cells[method, task]) for task in tasks)) for method in methods),
        sentences=("Best evaluation of each run, mean ± standard deviation over n seeds.",),
        footnotes=tuple(f"{MARK} {kind}: {CAVEATS[kind]}." for kind in CAVEATS if kind in kinds),
    )


def _text(runs: Sequence[Run]) -> str:
    """Write one cell: `79.41 ± 0.52 (n=3)`; where seeds diverged `79.41 (n=1; 2 diverged) ‡`."""
    if not runs:
        return MISSING
    cell = choose(runs)
    values = [value for run in cell.runs if (value := run.value(run.main)) is not None]
    diverged = cell.fallen[0]["diverged"]
    if not values and not diverged:  # timed, not evaluated
        return MISSING
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    mean = f"{statistics.fmean(values):.2f}{spread}" if values else MISSING
    return marked(f"{mean} (n={len(values)}{f'; {diverged} diverged' if diverged else ''})", cell.caveats)
