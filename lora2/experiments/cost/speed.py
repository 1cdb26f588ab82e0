"""How fast a device does the work that plan.py counts: from a GPU's data sheet, or from runs it has done."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lora2.common.errors import UserError
from lora2.config.grid import Job
from lora2.config.overrides import quote
from lora2.config.schema import RunConfig
from lora2.experiments.cost.lengths import UNKNOWN, lengths
from lora2.experiments.cost.plan import Cost, cost, train_flops
from lora2.runs.reader import Run, Times

SHEETS = Path(__file__).with_name("gpus.yaml")
PROBE_STEPS = 20
PROBE_DEV_ROWS = 1500  # a probe ends with an evaluation, so it takes tasks with small dev sets where there are some
APART = 1.5  # ratio of two probes' arithmetic from which a line through both means something
START_SECONDS = 20.0  # imports, weights, cached tokens; of a GPU that no run was seen on


@dataclass(frozen=True)
class Speed:
    """Seconds of a run = start + overhead · steps + arithmetic / rate, evaluation at a rate of its own.

    Args:
        overhead: seconds of a training step that do not depend on its length.
        train_rate, eval_rate: operations per second.
        start: seconds before the first step.
        source: where this comes from, for the reader.
    """

    overhead: float
    train_rate: float
    eval_rate: float
    start: float
    source: str

    def seconds(self, what: Cost) -> float:
        """Estimate the wall time of a run, in seconds."""
        training = what.steps * self.overhead + what.train.flops / self.train_rate
        return self.start + training + what.evaluation.flops / self.eval_rate


@dataclass(frozen=True)
class Sample:
    """One finished run: its arithmetic and its clocks."""

    step_flops: float
    step_seconds: float
    eval_flops: float
    eval_seconds: float
    start: float
    device: str
    date: str


def gpu_speed(name: str, precision: str, utilisation: float) -> Speed:
    """Return the speed of a named GPU at a share of its published dense peak.

    Args:
        name: one of `gpu_names()`.
        precision: fp32, fp16 or bf16.
        utilisation: share of the peak that is reached, above 0 and up to 1.

    Raises:
        UserError: unknown name, or a precision that it does not have.
    """
    sheets = _sheets()
    if name not in sheets:
        raise UserError(f"--gpu: got {name!r}; choose one of {', '.join(sheets)}")
    sheet = sheets[name]
    if precision == "bf16" and not sheet.get("bf16", True):
        raise UserError(f"--gpu: {name} has no bf16; plan with recipe.precision=fp16 or fp32")
    peak = sheet["fp32" if precision == "fp32" else "half"]
    rate = utilisation * peak * 1e12
    source = f"{utilisation:.0%} of {peak:g} TFLOP/s, {sheet['source']}"
    return Speed(overhead=0.0, train_rate=rate, eval_rate=rate, start=START_SECONDS, source=source)


def gpu_names() -> list[str]:
    """List the GPUs that have a data sheet here."""
    return list(_sheets())


def calibrate(runs: Iterable[Run], cfg: RunConfig) -> Speed | None:
    """Find the speed of runs like `cfg` (model, method, precision), from those of the device that ran last.

    With runs of different lengths it is the line through the shortest and the longest, else one through the origin.

    Returns:
        None where no such run has finished.
    """
    samples = []
    for run in runs:
        config = _settings(run)
        if config is None or lengths(config).source == UNKNOWN:
            continue
        if run.timing is not None and run.steps and _kind(config) == _kind(cfg):
            samples.append(_sample(config, run, run.timing))
    if not samples:
        return None
    device = max(samples, key=lambda sample: sample.date).device
    own = sorted((s for s in samples if s.device == device), key=lambda sample: sample.step_flops)
    evaluated = sum(s.eval_flops for s in own) / max(sum(s.eval_seconds for s in own), 1e-9)
    overhead, rate = _line(own[0], own[-1])
    start = min(sample.start for sample in own)
    source = f"{len(own)} runs on {device}"
    return Speed(overhead=overhead, train_rate=rate, eval_rate=evaluated, start=start, source=source)


def probe_folder(cfg: RunConfig) -> Path:
    """Say where the records of probes go, apart from the real ones; the token cache is shared."""
    return Path(cfg.output_dir) / "probe"


def probe_overrides(job: Job) -> list[str]:
    """Turn a job's command line into a probe: 20 steps, one evaluation, records apart from the real ones."""
    probe = {
        "recipe.max_steps": PROBE_STEPS, "recipe.eval_every": PROBE_STEPS, "budget.scale": "auto",
        "force": "true",
    }  # fmt: skip
    settings = [f"{key}={value}" for key, value in probe.items()]
    return [*job.overrides, *settings, quote("results_dir", str(probe_folder(job.cfg)))]


def probes(jobs: Sequence[Job]) -> list[Job]:
    """Choose of each model, method and precision the jobs with the shortest and the longest steps."""
    kinds: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs:
        kinds.setdefault(_kind(job.cfg), []).append(job)
    chosen = []
    for members in kinds.values():
        quick = [job for job in members if _dev_rows(job) <= PROBE_DEV_ROWS] or [min(members, key=_dev_rows)]
        ordered = sorted(quick, key=lambda job: _step_flops(cost(job.cfg)))
        chosen += [ordered[0]]
        if _step_flops(cost(ordered[-1].cfg)) > APART * _step_flops(cost(ordered[0].cfg)):
            chosen.append(ordered[-1])
    return chosen


def _dev_rows(job: Job) -> int:
    return len(lengths(job.cfg).dev)


def _step_flops(what: Cost) -> float:
    return what.train.flops / what.steps


def _line(short: Sample, long: Sample) -> tuple[float, float]:
    """Overhead in seconds per step, and operations per second."""
    seconds, flops = long.step_seconds - short.step_seconds, long.step_flops - short.step_flops
    if long.step_flops < APART * short.step_flops or seconds <= 0:
        return 0.0, (short.step_flops + long.step_flops) / (short.step_seconds + long.step_seconds)
    overhead = short.step_seconds - short.step_flops * seconds / flops
    if overhead < 0:
        return 0.0, long.step_flops / long.step_seconds
    return overhead, flops / seconds


def _settings(run: Run) -> RunConfig | None:
    """The settings of a finished run, or None where there is nothing to learn from."""
    if run.status != "ok":
        return None
    try:
        return RunConfig.model_validate(run.resolved)
    except ValidationError:  # of another version
        return None


def _kind(cfg: RunConfig) -> tuple[str, str, str]:
    return cfg.model.name, cfg.method.name, cfg.recipe.precision


def _sample(cfg: RunConfig, run: Run, timing: Times) -> Sample:
    """Training's arithmetic from the padded tokens that were processed, evaluation's from the plan."""
    steps, padded_tokens = run.steps, run.padded_tokens
    width = padded_tokens / (steps * cfg.recipe.batch_size)  # mean padded length
    flops = train_flops(cfg, steps * cfg.recipe.accumulation, padded_tokens, int(padded_tokens * width))
    return Sample(
        step_flops=flops / steps,
        step_seconds=timing.seconds_per_step,
        eval_flops=cost(cfg).evaluation.flops,
        eval_seconds=timing.eval_s,
        start=max(0.0, timing.wall_s - timing.train_s - timing.eval_s),
        device=str(run.provenance.get("device")),
        date=str(run.provenance.get("date")),
    )


def _sheets() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(SHEETS.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
