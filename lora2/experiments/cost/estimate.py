"""The cost of every job of an experiment on one device, and the hours that are left."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lora2.common.table import MISSING, Table
from lora2.config.schema import RunConfig
from lora2.experiments.cost.lengths import measure
from lora2.experiments.cost.plan import Cost, cost
from lora2.experiments.cost.speed import Speed, calibrate, gpu_speed, probe_folder
from lora2.experiments.status import OVER, JobStatus
from lora2.runs.reader import load_runs


@dataclass(frozen=True)
class Estimate:
    """A job with its cost; seconds is None where no speed is known."""

    status: JobStatus
    cost: Cost
    seconds: float | None
    speed: str

    @property
    def left(self) -> float | None:
        """Seconds that are still to be spent."""
        return 0.0 if self.status.state in OVER else self.seconds


def estimate(statuses: Sequence[JobStatus], speed_of: Callable[[RunConfig], Speed | None]) -> list[Estimate]:
    """Estimate cost and time of every job; data at hand is measured first."""
    measure(status.job.cfg for status in statuses if status.refused is None)
    found = []
    for status in statuses:
        speed, what = speed_of(status.job.cfg), cost(status.job.cfg)
        seconds = None if speed is None else speed.seconds(what)
        found.append(Estimate(status, what, seconds, "" if speed is None else speed.source))
    return found


def gpu(name: str, utilisation: float) -> Callable[[RunConfig], Speed | None]:
    """Take speeds from a GPU's data sheet."""
    return lambda cfg: gpu_speed(name, cfg.recipe.precision, utilisation)


def this_device(statuses: Sequence[JobStatus]) -> Callable[[RunConfig], Speed | None]:
    """Take speeds from what has run here: probes where there are any of the kind, else the experiment's own runs."""
    folders = {probe_folder(status.job.cfg) for status in statuses}
    probes = [run for folder in sorted(folders) for run in load_runs(folder / "runs")[0]]
    runs = [status.run for status in statuses if status.run is not None]
    known: dict[tuple[str, str, str], Speed | None] = {}

    def speed_of(cfg: RunConfig) -> Speed | None:
        kind = (cfg.model.name, cfg.method.name, cfg.recipe.precision)
        if kind not in known:
            known[kind] = calibrate(probes, cfg) or calibrate(runs, cfg)
        return known[kind]

    return speed_of


def hours(seconds: Sequence[float | None]) -> float | None:
    """Add up seconds, in hours; None if one is unknown."""
    known = [value for value in seconds if value is not None]
    return sum(known) / 3600 if len(known) == len(seconds) else None


def as_table(title: str, estimates: Sequence[Estimate]) -> Table:
    """Give each cell a line (its seeds together), below the total."""
    cells: dict[str, list[Estimate]] = {}
    for item in estimates:
        cells.setdefault(item.status.job.cell, []).append(item)
    lines = [_line(cell, items) for cell, items in cells.items()]
    header = ("Cell", "Runs", "Done", "Steps", "Tokens", "Padded", "PFLOP", "Peak GB", "Hours", "Lengths")
    sources = sorted({item.speed for item in estimates if item.speed})
    notes = [f"Hours by {source}." for source in sources] or ["Hours need --probe (20 steps here) or --gpu NAME."]
    if any(item.cost.lengths != "measured here" for item in estimates):
        notes.append("Lengths: measured or estimate = stored quantiles of the official data, lora2/glue/lengths.yaml.")
    return Table(title=title, header=header, rows=(_line("total", estimates), *lines), footnotes=tuple(notes))


def as_json(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Collect every run and the totals, for programs to read."""
    return {
        "runs": [_run_json(item) for item in estimates],
        "total": {
            "runs": len(estimates),
            "done": sum(item.status.state == "done" for item in estimates),
            "tokens": sum(item.cost.tokens for item in estimates),
            "padded_tokens": sum(item.cost.train.padded_tokens for item in estimates),
            "flops": sum(_flops(item) for item in estimates),
            "hours": hours([item.seconds for item in estimates]),
            "hours_left": hours([item.left for item in estimates]),
        },
    }


def as_json_text(estimates: Sequence[Estimate]) -> str:
    """Write `as_json` as text."""
    return json.dumps(as_json(estimates), indent=1, ensure_ascii=False)


def _run_json(item: Estimate) -> dict[str, Any]:
    job, what = item.status.job, item.cost
    return {
        "overrides": list(job.overrides),
        "task": job.cfg.task,
        "variant": job.cfg.variant,
        "seed": job.cfg.seed,
        "state": item.status.state,
        "error": item.status.error,
        "progress": None if item.status.progress is None else asdict(item.status.progress),
        "steps": what.steps,
        "tokens": what.tokens,
        "padded_tokens": what.train.padded_tokens,
        "train_flops": what.train.flops,
        "eval_flops": what.evaluation.flops,
        "memory_bytes": what.memory,
        "lengths": what.lengths,
        "seconds": item.seconds,
        "speed": item.speed or None,
    }


def _line(label: str, items: Sequence[Estimate]) -> tuple[str, ...]:
    sums = (sum(getter(item) for item in items) for getter in (_steps, _tokens, _padded_tokens))
    total = hours([item.seconds for item in items])
    return (
        label,
        str(len(items)),
        str(sum(item.status.state == "done" for item in items)),
        *(f"{value:,}" for value in sums),
        f"{sum(map(_flops, items)) / 1e15:,.3g}",
        f"{max(item.cost.memory for item in items) / 1e9:.1f}",
        MISSING if total is None else f"{total:,.2f}",
        ", ".join(sorted({item.cost.lengths for item in items})),
    )


def _steps(item: Estimate) -> int:
    return item.cost.steps


def _tokens(item: Estimate) -> int:
    return item.cost.tokens


def _padded_tokens(item: Estimate) -> int:
    return item.cost.train.padded_tokens


def _flops(item: Estimate) -> float:
    return item.cost.train.flops + item.cost.evaluation.flops
