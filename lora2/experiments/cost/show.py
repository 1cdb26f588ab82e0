"""The plan of an experiment: probes if they are asked for, then its cost as a table or as JSON."""

import sys
from collections.abc import Sequence

from lora2.common.errors import UserError
from lora2.common.rendering import form_for, render
from lora2.common.voice import say
from lora2.config.grid import Job
from lora2.experiments.cost.estimate import as_json_text, as_table, estimate, gpu, hours, this_device
from lora2.experiments.cost.lengths import measure
from lora2.experiments.cost.speed import probe_overrides, probes
from lora2.experiments.status import survey
from lora2.experiments.sweep import Start, refusals, refuse, state_counts

UTILISATION = 0.35  # share of a GPU's peak, unless another is given


def show_plan(
    name: str,
    jobs: Sequence[Job],
    *,
    probe_with: Start | None,
    gpu_name: str | None,
    utilisation: float | None,
    as_json: bool,
    form: str | None = None,
) -> int:
    """Print what an experiment will cost.

    Args:
        name: the experiment.
        jobs: all of them.
        probe_with: first time a few steps of each method on this device, with this; None: no probes.
        gpu_name: take the speed from this GPU's data sheet; None: from what has run here.
        utilisation: the share of that GPU's peak that is reached; None: UTILISATION.
        as_json: print every run as JSON.
        form: of what is printed; None: text on a terminal, markdown in a pipe.

    Returns:
        0 done, 1 a probe failed.

    Raises:
        UserError: no such share, no such GPU, or probes of jobs that are refused.
    """
    if utilisation is not None and gpu_name is None:
        raise UserError("--utilisation: it is a share of a GPU's peak; say of which: --gpu A100")
    utilisation = UTILISATION if utilisation is None else utilisation
    if not 0 < utilisation <= 1:
        raise UserError(f"--utilisation: got {utilisation:g}; give a share above 0, up to 1: --utilisation 0.35")
    statuses = survey(jobs)
    failed = 0
    if probe_with is not None:
        refuse(statuses)
        failed = run_probes(jobs, probe_with)
    estimates = estimate(statuses, gpu(gpu_name, utilisation) if gpu_name else this_device(statuses))
    if as_json:
        print(as_json_text(estimates))
        return failed
    left = hours([item.left for item in estimates])
    say(f"{state_counts(statuses)}; hours left: {'unknown' if left is None else f'{left:,.1f}'}")
    print(render([as_table(f"Plan of {name}", estimates)], form or form_for(sys.stdout)), end="", flush=True)
    for line in refusals(statuses):
        say(f"refused: {line}")
    return failed


def run_probes(jobs: Sequence[Job], start: Start) -> int:
    """Time a few steps of each method on this device, one probe after the other; 1 if any failed."""
    measure(job.cfg for job in jobs)
    chosen = probes(jobs)
    failed = 0
    for index, job in enumerate(chosen, 1):
        say(f"probe {index}/{len(chosen)}: {job.label}")
        if start(probe_overrides(job)).code != 0:
            failed = 1
    return failed
