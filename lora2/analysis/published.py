"""Take a user's own good runs into results/, and make everything there anew that is made of runs."""

import shutil
from pathlib import Path

from lora2.analysis.publish import publish_claims, publish_diagnostics, publish_figure3, publish_table
from lora2.common.errors import UserError
from lora2.common.voice import say
from lora2.runs.caveats import CAVEATS, FALLEN
from lora2.runs.format import RESULTS
from lora2.runs.reader import Run, load_runs

TABLES = ("runs", "table1", "table2", "table3", "table4")
# A published set without the seeds that collapsed or diverged would be a selection; versions are a matter of the runs
# beside it.
PUBLISHED_WITH = {*FALLEN, "other versions"}


def publish_runs(own: Path, results: Path, page: Path) -> int:
    """Copy the runs that may be published, and renew tables, figure and the blocks of a page.

    A run that is published already stays as it is.

    Args:
        own: the results folder that runs write to.
        results: the folder of what is published.
        page: the page with the blocks of claims and diagnostics.

    Returns:
        The exit code, 0.

    Raises:
        UserError: there is no such folder, or the page lacks a block.
    """
    if not results.is_dir():
        raise UserError(f"--results: no folder {results}; give the folder that holds runs/ and paper/: --results DIR")
    runs, warnings = load_runs(own / "runs")
    for warning in warnings:
        say(f"warning: {warning}")
    taken = [run for run in runs if _take(run, own, results)]
    say(f"{len(taken)} of {len(runs)} runs in {own} published")
    for name in TABLES:
        path = results / "tables" / f"{name}.md"
        if name == "runs" or path.exists():
            publish_table(name, results, None, "markdown", path)
    publish_figure3(results, None, "lora2_k8", None, results / "figures" / "figure3.png")
    publish_claims(results, "markdown", page, check=False)
    publish_diagnostics(results, "markdown", page)
    return 0


def objections(run: Run) -> list[str]:
    """Say why a run must not be published; nothing for a clean, full, real one."""
    kinds = {*run.caveats, *(["random weights"] if run.model_random_init else [])}  # of a timing it is no caveat
    found = {
        f"its status is {run.status}": run.status not in RESULTS and "diverged" not in run.caveats,
        **{f"{kind}: {why}": kind in kinds - PUBLISHED_WITH for kind, why in CAVEATS.items()},
        "its code is of no known commit": not run.provenance.get("git_commit"),
        "its code had changes that are not committed": bool(run.provenance.get("dirty_diff")),
    }
    return [reason for reason, holds in found.items() if holds]


def _take(run: Run, own: Path, results: Path) -> bool:
    """Copy one record, or say why not."""
    target = results / "runs" / f"{run.run_id}.json"
    reasons = ["it is published already"] if target.exists() else objections(run)
    if reasons:
        say(f"left out: {run.run_id}: {'; '.join(reasons)}")
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(own / "runs" / target.name, target)
    say(f"published: {run.run_id}")
    return True
