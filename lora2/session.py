"""The part of a run that needs torch: build, train, check, save, record."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import nn
from transformers.utils import logging as transformers_logging

from lora2.config import RunConfig
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import tokenise
from lora2.methods import Census, build
from lora2.models import load_model, load_tokenizer, weights_hash
from lora2.provenance import cpu_name, provenance
from lora2.records import Counts, Metrics, RecordConfig, RunRecord, Timing, write_record
from lora2.trainer import DivergedError, Fit, Trainer

MERGE_TOLERANCE = {
    "fp32": 1e-3,
    "bf16": 0.1,
    "fp16": 0.02,
}  # of the largest logit: rounding of W + ΔW, through the depth


@dataclass(frozen=True)
class Outcome:
    """What a run that went to its end has to tell."""

    fit: Fit
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
    }
    accelerator = _accelerator(cfg)
    try:
        outcome = _train(cfg, raw, run_id, accelerator)
    except (DivergedError, FloatingPointError, torch.OutOfMemoryError) as error:
        out_of_memory = isinstance(error, torch.OutOfMemoryError)
        record = RunRecord(**base, status="oom" if out_of_memory else "failed", error=str(error))
    else:
        record = _record(base, outcome, time.perf_counter() - started)
    record.provenance = provenance(_device_name(accelerator.device))
    record.memory = _peak_memory(accelerator.device)
    if accelerator.is_main_process:
        write_record(record, cfg.results_dir)
    accelerator.wait_for_everyone()  # gloo may abort when a process ends while another still talks
    return record


def _train(cfg: RunConfig, raw: RawTask, run_id: str, accelerator: Accelerator) -> Outcome:
    task = TASKS[cfg.task]
    set_seed(cfg.seed)
    tokenizer = load_tokenizer(cfg.model, raw)
    splits = tokenise(raw, tokenizer, cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
    model = load_model(cfg.model, task.num_labels, cfg.recipe.cls_dropout)
    method = build(model, cfg, cfg.recipe.total_steps(len(splits["train"])))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    before = weights_hash(model, frozen)
    trainer = Trainer(
        accelerator, model, method, task, splits, int(tokenizer.pad_token_id or 0), cfg.recipe, cfg.seed, _no_log
    )
    fit = trainer.fit()
    census = method.census()
    checks = {
        "budget_met": True,  # census raises otherwise
        "frozen_weights_unchanged": weights_hash(model, frozen) == before,
        "merged_equals_unmerged": _merge_error(trainer) <= MERGE_TOLERANCE[cfg.recipe.precision],
    }
    if accelerator.is_main_process:
        _save(Path(cfg.output_dir) / run_id, fit, dict(trainer.trained()))
    hashes = {"data": raw.fingerprint, "frozen_weights": before}
    return Outcome(fit, census, checks, hashes)


def _merge_error(trainer: Trainer) -> float:
    """Largest difference of merged and unmerged logits on (up to 256) dev examples, relative to the largest logit."""
    split = trainer.splits[trainer.task.dev_splits[0]].first(256)
    trainer.model.eval()
    with torch.no_grad(), trainer.precision():
        plain = trainer.logits(trainer.model, split)
        with trainer.method.merged():
            merged = trainer.logits(trainer.model, split)
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
        **base,
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
        hashes=outcome.hashes,
        timing=_timing(fit, wall),
    )


def _timing(fit: Fit, wall: float) -> Timing:
    seconds = dict(fit.seconds)
    evaluation = seconds.pop("eval", 0.0)
    train = sum(seconds.values())
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
    return Accelerator(mixed_precision=precision)


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


def _no_log(step: int, numbers: dict[str, float]) -> None:
    """No tracker."""
