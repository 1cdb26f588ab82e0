"""The part of a run that needs torch: build, train, check, save, record."""

import resource
import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import nn
from transformers.utils import logging as transformers_logging

from lora2.config import RunConfig
from lora2.errors import UserError
from lora2.fit import Fit
from lora2.glue.heldout import HELDOUT, hold_out
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import tokenise
from lora2.methods import Census, build
from lora2.models import load_model, load_tokenizer, weights_hash
from lora2.provenance import cpu_name, provenance
from lora2.records import (
    Counts,
    Metrics,
    RecordConfig,
    RunRecord,
    Timing,
    read_record,
    record_path,
    write_record,
)
from lora2.signals import heed_signals
from lora2.tracking import Log, finish_tracking, start_tracking
from lora2.trainer import CancelledError, DivergedError, Trainer

MERGE_TOLERANCE = {
    "fp32": 1e-3,
    "bf16": 0.1,
    "fp16": 0.02,
}  # of the largest logit: rounding of W + ΔW, through the depth
CHECKPOINTS = "checkpoints"
EXPECTED = (DivergedError, CancelledError, FloatingPointError, torch.OutOfMemoryError)


@dataclass(frozen=True)
class Outcome:
    """What a run that went to its end has to tell."""

    fit: Fit
    notes: list[str]
    census: Census
    checks: dict[str, bool]
    hashes: dict[str, str]


def execute(cfg: RunConfig, raw: RawTask, run_id: str, setting_id: str, notes: list[str], started: float) -> RunRecord:
    """Train, then write the record, whatever happened; only a user's mistake is raised without one.

    Args:
        started: time.perf_counter() when the run began.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    base: dict[str, Any] = {
        "run_id": run_id,
        "config": _record_config(cfg, setting_id),
        "synthetic": raw.synthetic,
        "model_random_init": cfg.model.random_init,
        "notes": notes,
        "hashes": {"data": raw.fingerprint},
    }
    accelerator = _accelerator(cfg)
    folder = Path(cfg.output_dir) / run_id
    diverged = False
    try:
        with heed_signals() as stop:
            outcome = _train(cfg, raw, folder, accelerator, stop, start_tracking(accelerator, cfg, run_id, setting_id))
    except UserError:
        raise
    except EXPECTED as error:
        diverged = isinstance(error, DivergedError | FloatingPointError)
        record = RunRecord(**base, status=_status(error), error=str(error))
    except Exception as error:  # a fault of ours: the sweep goes on, the record and the log say what it was
        traceback.print_exc()
        record = RunRecord(**base, status="failed", error=f"{type(error).__name__}: {error}")
    else:
        record = _record(base, outcome, time.perf_counter() - started)
    record.provenance = provenance(_device_name(accelerator.device))
    record.memory = _peak_memory(accelerator.device)
    if accelerator.is_main_process:
        _keep(record, cfg.results_dir)
        if record.status == "ok" or diverged:  # after any other end the run can go on from its last checkpoint
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    accelerator.wait_for_everyone()  # gloo may abort when a process ends while another still talks
    finish_tracking(accelerator, _summary(record))
    return record


def _keep(record: RunRecord, results_dir: str) -> None:
    """Write the record, unless it tells of a failure and there is a good one of an earlier run."""
    path = record_path(results_dir, record.run_id)
    with suppress(UserError):
        if record.status != "ok" and path.exists() and read_record(path).status == "ok":
            record.notes.append("not written: the record of an earlier run, which ended well, is kept")
            return
    write_record(record, results_dir)


def _status(error: Exception) -> Literal["failed", "oom", "cancelled"]:
    if isinstance(error, CancelledError):
        return "cancelled"
    return "oom" if isinstance(error, torch.OutOfMemoryError) else "failed"


def _train(
    cfg: RunConfig, raw: RawTask, folder: Path, accelerator: Accelerator, stop: Callable[[], bool], log: Log
) -> Outcome:
    task = TASKS[cfg.task]
    set_seed(cfg.seed)
    tokenizer = load_tokenizer(cfg.model, raw)
    splits = tokenise(raw, tokenizer, cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
    if cfg.selection == "heldout":
        splits["train"], splits[HELDOUT] = hold_out(splits["train"], cfg.seed)
    model = load_model(cfg.model, task.num_labels, cfg.recipe.cls_dropout)
    model.to(accelerator.device)  # before the method, whose state lives where the weights do
    method = build(model, cfg, cfg.recipe.total_steps(len(splits["train"])))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    before = weights_hash(model, frozen)
    if cfg.force:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    trainer = Trainer(
        accelerator=accelerator,
        model=model,
        method=method,
        task=task,
        splits=splits,
        pad_id=int(tokenizer.pad_token_id or 0),
        recipe=cfg.recipe,
        checkpoints=cfg.checkpoint,
        seed=cfg.seed,
        folder=folder / CHECKPOINTS,
        stop=stop,
        log=log,
    )
    fit, notes = trainer.fit()
    if cfg.budget is not None and fit.best_step <= trainer.total - cfg.budget.t_f:
        notes.append(f"the best checkpoint, step {fit.best_step}, is from before the final ranks were fixed")
    census = method.census()
    checks = {
        "budget_met": True,  # census raises otherwise
        "frozen_weights_unchanged": weights_hash(model, frozen) == before,
        "merged_equals_unmerged": _merge_error(trainer) <= MERGE_TOLERANCE[cfg.recipe.precision],
    }
    if accelerator.is_main_process:
        _save(folder, fit, dict(trainer.trained()))
    return Outcome(fit, notes, census, checks, {"frozen_weights": before})


def _merge_error(trainer: Trainer) -> float:
    """Largest difference of merged and unmerged logits on (up to 256) dev examples, relative to the largest logit."""
    dev, evaluator = trainer.splits[trainer.task.dev_splits[0]], trainer.evaluator
    split = dev.take(np.arange(min(256, len(dev))))
    trainer.model.eval()
    with torch.no_grad(), trainer.precision():
        plain = evaluator.logits(trainer.model, split)
        with trainer.method.merged():
            merged = evaluator.logits(trainer.model, split)
    return float(abs(merged - plain).max() / max(1.0, abs(plain).max()))


def _save(folder: Path, fit: Fit, trained: dict[str, nn.Parameter]) -> None:
    """Trained weights, best and last, as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    last = {name: p.detach().to("cpu", copy=True) for name, p in trained.items()}
    for name, weights in (("best", fit.best_weights), ("last", last)):
        save_file(weights, folder / f"{name}.safetensors", metadata={"format": "pt"})


def _record(base: dict[str, Any], outcome: Outcome, wall: float) -> RunRecord:
    fit, census = outcome.fit, outcome.census
    failed = [name for name, passed in outcome.checks.items() if not passed]
    main = TASKS[base["config"].task].main_metric
    return RunRecord(
        **base | {"notes": [*base["notes"], *outcome.notes], "hashes": base["hashes"] | outcome.hashes},
        status="failed" if failed else "ok",
        error=f"checks failed: {', '.join(failed)}" if failed else None,
        metrics=Metrics(best=fit.best, last=fit.last, best_step=fit.best_step, main=main),
        counts=Counts(
            adapter=census.adapter, active_adapter=census.active_adapter, head=census.head, backbone=census.backbone
        ),
        ranks=census.ranks,
        padding_share=1 - fit.tokens / fit.positions,
        steps=fit.steps,
        tokens=fit.tokens,
        positions=fit.positions,
        history=fit.history,
        checks=outcome.checks,
        timing=_timing(fit, wall),
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


def _record_config(cfg: RunConfig, setting_id: str) -> RecordConfig:
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


def _accelerator(cfg: RunConfig) -> Accelerator:
    AcceleratorState._reset_state(
        reset_partial_state=False
    )  # an earlier run in this process may have had another precision
    GradientState._reset_state()
    precision = {"fp32": "no"}.get(cfg.recipe.precision, cfg.recipe.precision)
    tracker = None if cfg.tracker.name == "none" else cfg.tracker.name
    # without cpu=True, accelerate would run the processes of a CPU torchrun apart from each other
    cpu = not torch.cuda.is_available()
    if cpu and cfg.recipe.precision == "fp16":  # accelerate would silently take float32
        raise UserError(
            "recipe.precision: fp16 needs a GPU, here is none; allowed are fp32 and bf16: recipe.precision=bf16"
        )
    return Accelerator(mixed_precision=precision, log_with=tracker, project_dir=cfg.output_dir, cpu=cpu)


def _device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{cpu_name()}, {torch.get_num_threads()} threads"
    )


def _peak_memory(device: torch.device) -> dict[str, float]:
    peak = {"process_bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if device.type == "cuda":
        peak["device_bytes"] = float(torch.cuda.max_memory_allocated(device))
    return peak


def _summary(record: RunRecord) -> dict[str, float]:
    """The record's main numbers, for a tracker's summary."""
    metrics = {} if record.metrics is None else {f"best/{name}": value for name, value in record.metrics.best.items()}
    counts = {} if record.counts is None else {f"counts/{name}": n for name, n in record.counts.model_dump().items()}
    return metrics | counts
