"""From what a run did to its record on disk."""

import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lora2.common.errors import UserError
from lora2.common.files import StorageError
from lora2.config.schema import RunConfig
from lora2.glue.tasks import TASKS
from lora2.models.methods import ParameterCounts
from lora2.runs.provenance import cpu_name
from lora2.runs.record import Counts, Metrics, RecordConfig, RunRecord, Timing, read_record, record_path, write_record
from lora2.training.fit import Fit


@dataclass(frozen=True)
class RunResult:
    """What a run that went to its end has to tell."""

    fit: Fit
    counts: ParameterCounts
    checks: dict[str, bool]
    hashes: dict[str, str]


def record_of(base: dict[str, Any], result: RunResult, wall: float) -> RunRecord:
    """The record of a run that went to its end; `base` is what was known of it before.

    Args:
        wall: seconds since its process began.
    """
    fit = result.fit
    failed = [name for name, passed in result.checks.items() if not passed]
    main = TASKS[base["config"].task].main_metric
    return RunRecord(
        **base | {"hashes": base["hashes"] | result.hashes},
        status="failed" if failed else "ok",
        error=f"checks failed: {', '.join(failed)}" if failed else None,
        metrics=Metrics(best=fit.best, last=fit.last, best_step=fit.best_step, main=main),
        counts=counts_of(result.counts),
        ranks=result.counts.ranks,
        padding_share=1 - fit.tokens / fit.positions,
        steps=fit.steps,
        tokens=fit.tokens,
        positions=fit.positions,
        history=fit.history,
        checks=result.checks,
        timing=_timing(fit, wall),
    )


def counts_of(counts: ParameterCounts) -> Counts:
    """The counts without its ranks, which a record keeps apart."""
    return Counts(
        adapter=counts.adapter, active_adapter=counts.active_adapter, head=counts.head, backbone=counts.backbone
    )


def _timing(fit: Fit, wall: float) -> Timing:
    seconds = dict(fit.seconds)
    evaluation, train = seconds.pop("eval", 0.0), fit.train_seconds
    return Timing(
        wall_s=wall,
        train_s=train,
        eval_s=evaluation,
        seconds_per_step=train / fit.steps,
        tokens_per_s=fit.tokens / train,
        shares={name: value / train for name, value in sorted(seconds.items())},
    )


def record_config(cfg: RunConfig, setting_id: str) -> RecordConfig:
    """What was run."""
    return RecordConfig(
        model=cfg.model.name,
        task=cfg.task,
        method=cfg.method.name,
        seed=cfg.seed,
        variant=cfg.variant,
        recipe=cfg.recipe.name,
        data=cfg.data.source,
        experiment=cfg.experiment,
        setting_id=setting_id,
        resolved=cfg.model_dump(mode="json"),
    )


def device_name(device: torch.device) -> str:
    """The GPU, or the processor with its threads in use."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{cpu_name()}, {torch.get_num_threads()} threads"
    )


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peak bytes of this process and, with a GPU, of torch's allocator there."""
    peak = {"process_bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if device.type == "cuda":
        peak["device_bytes"] = float(torch.cuda.max_memory_allocated(device))
    return peak


def keep(record: RunRecord, results_dir: str) -> None:
    """Write the record, unless it tells of a failure and there is a good one of an earlier run.

    Raises:
        StorageError: it could not be written; says also what else went wrong.
    """
    path = record_path(results_dir, record.run_id)
    with suppress(UserError):
        if record.status != "ok" and path.exists() and read_record(path).status == "ok":
            record.notes.append("not written: the record of an earlier run, which ended well, is kept")
            return
    try:
        write_record(record, results_dir)
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", None)
        if record.error and reason and reason in record.error:  # one disk, one message
            raise StorageError(f"{record.error}; the record could not be written either: {path}") from error
        raise StorageError("; ".join([*filter(None, [record.error]), str(error)])) from error


def modified(path: Path) -> int | None:
    """When a file was last written, in ns; None if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else None
