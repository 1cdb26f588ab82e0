"""The part of a run that needs torch: build, train, check, save, record."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import gather_object, set_seed
from safetensors.torch import save
from torch import nn

from lora2.common.errors import UserError
from lora2.common.files import write_whole
from lora2.common.signals import heed_signals
from lora2.common.terminal import say
from lora2.config.schema import RunConfig
from lora2.glue.heldout import HELDOUT, hold_out
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import tokenise
from lora2.models.backbone import load_model, load_tokenizer, quiet_transformers, weights_hash
from lora2.models.methods import build
from lora2.runs.provenance import provenance
from lora2.runs.record import RunRecord, read_record, record_path
from lora2.training.checkpoint import Checkpoint, CheckpointFolder
from lora2.training.failure import explain
from lora2.training.fit import Fit
from lora2.training.loop import Trainer
from lora2.training.recording import RunResult, device_name, keep, modified, peak_memory, record_config, record_of
from lora2.training.tracking.tracker import Tracking

MERGE_TOLERANCE = {
    "fp32": 1e-3,
    "bf16": 0.1,
    "fp16": 0.02,
}  # of the largest logit: rounding of W + ΔW, through the depth
CHECKPOINTS = "checkpoints"


def execute(cfg: RunConfig, raw: RawTask, run_id: str, setting_id: str, notes: list[str], started: float) -> RunRecord:
    """Train, then write the record, whatever happened.

    Args:
        notes: for the record; what the run notices is added.
        started: time.perf_counter() when the run began.

    Raises:
        UserError: a mistake of the user's that shows only now; there is no record.
        StorageError: the record could not be written.
    """
    quiet_transformers()
    base: dict[str, Any] = {
        "run_id": run_id,
        "config": record_config(cfg, setting_id),
        "synthetic": raw.synthetic,
        "model_random_init": cfg.model.random_init,
        "notes": notes,
        "hashes": {"data": raw.fingerprint},
    }
    accelerator, failure = _accelerator(cfg), None
    path = record_path(cfg.results_dir, run_id)
    before = modified(path)
    checkpoints = CheckpointFolder(Path(cfg.output_dir) / run_id / CHECKPOINTS, run_id)
    tracking = Tracking(accelerator, cfg, run_id, setting_id)
    try:
        with heed_signals() as stop:
            result = _train(cfg, raw, checkpoints, accelerator, stop, tracking.log, notes)
    except UserError:
        raise
    except Exception as error:  # the sweep goes on; the record says what it was
        failure = explain(error)
        if not failure.expected:
            traceback.print_exc()
        record = RunRecord(**base, status=failure.status, error=failure.reason)
    else:
        record = record_of(base, result, time.perf_counter() - started)
    record.provenance = provenance(device_name(accelerator.device))
    record.memory = peak_memory(accelerator.device)
    if failure is None or failure.together:
        if accelerator.is_main_process:
            keep(record, cfg.results_dir)
            if record.status == "ok" or (failure and failure.repeats):
                checkpoints.clear()  # after any other end the run can go on from its last checkpoint
        accelerator.wait_for_everyone()  # gloo may abort when a process ends while another still talks
    elif modified(path) == before:
        record.error = f"{_which(accelerator)}{record.error}"
        keep(record, cfg.results_dir)
    else:  # another process failed first and told; that this one lost it is no news
        record = read_record(path)
    tracking.finish(record)
    return record


def _which(accelerator: Accelerator) -> str:
    """This process, where there are several."""
    world = accelerator.num_processes
    return f"process {accelerator.process_index} of {world}: " if world > 1 else ""


def _train(
    cfg: RunConfig,
    raw: RawTask,
    checkpoints: CheckpointFolder,
    accelerator: Accelerator,
    stop: Callable[[], bool],
    log: Callable[[int, dict[str, float]], None],
    notes: list[str],
) -> RunResult:
    task = TASKS[cfg.task]
    set_seed(cfg.seed)
    tokenizer = load_tokenizer(cfg.model, raw)
    with _main_first(accelerator):
        splits = tokenise(raw, tokenizer, cfg.recipe.max_length, Path(cfg.output_dir) / "tokens")
        if cfg.force and accelerator.is_main_process:
            checkpoints.clear()
    if cfg.selection == "heldout":
        splits["train"], splits[HELDOUT] = hold_out(splits["train"], cfg.seed)
    model = load_model(cfg.model, task.num_labels, cfg.recipe.cls_dropout)
    model.to(accelerator.device)  # before the method, whose state lives where the weights do
    method = build(model, cfg, cfg.recipe.total_steps(len(splits["train"])))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    before = weights_hash(model, frozen)
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
        num_workers=cfg.num_workers,
        folder=checkpoints,
        stop=stop,
        log=log,
    )
    fit = trainer.fit(_found(checkpoints, notes))
    if cfg.budget is not None and fit.best_step <= trainer.total - cfg.budget.t_f:
        notes.append(f"the best checkpoint, step {fit.best_step}, is from before the final ranks were fixed")
    counts = method.count_parameters()
    checks = {
        "budget_met": True,  # counts raises otherwise
        "frozen_weights_unchanged": weights_hash(model, frozen) == before,
    }
    tolerance = MERGE_TOLERANCE[cfg.recipe.precision]
    for name, form in (("merged", method.merged()), ("exported", method.exported())):
        if form is not None:
            checks[f"{name}_equals_unmerged"] = _difference(trainer, form) <= tolerance
    if accelerator.is_main_process:
        _save(checkpoints.path.parent, fit, dict(trainer.trained()))
    return RunResult(fit, counts, checks, {"frozen_weights": before})


@contextmanager
def _main_first(accelerator: Accelerator) -> Iterator[None]:
    """Inside, the main process writes what the others then find; they follow even if it fails."""
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
    try:
        yield
    finally:
        if accelerator.is_main_process:
            accelerator.wait_for_everyone()


def _found(checkpoints: CheckpointFolder, notes: list[str]) -> Checkpoint | None:
    """The checkpoint to go on from, if any; what is wrong with others is noted.

    Raises:
        UserError: the processes of the run do not see the same one.
    """
    found, passed_over = checkpoints.latest()
    for note in passed_over:
        say(f"{checkpoints.run_id}: note: {note}")
    notes += passed_over
    steps = gather_object([0 if found is None else found.step])
    if len(set(steps)) > 1:
        raise UserError(
            f"output_dir: the processes of the run find checkpoints of steps {steps} in {checkpoints.path}; it must be "
            f"one folder on a disk that all of them share"
        )
    return found


def _difference(trainer: Trainer, form: AbstractContextManager[None]) -> float:
    """Largest difference of logits inside and outside `form`, on up to 256 dev examples, relative to the largest."""
    dev, evaluator = trainer.splits[trainer.task.dev_splits[0]], trainer.evaluator
    split = dev.take(np.arange(min(256, len(dev))))
    trainer.model.eval()
    with torch.no_grad(), trainer.precision():
        plain = evaluator.logits(trainer.model, split)
        with form:
            other = evaluator.logits(trainer.model, split)
    return float(abs(other - plain).max() / max(1.0, abs(plain).max()))


def _save(folder: Path, fit: Fit, trained: dict[str, nn.Parameter]) -> None:
    """Trained weights, best and last, as safetensors."""
    last = {name: p.detach().to("cpu", copy=True) for name, p in trained.items()}
    for name, weights in (("best", fit.best_weights), ("last", last)):
        write_whole(folder / f"{name}.safetensors", save(weights, metadata={"format": "pt"}))


def _accelerator(cfg: RunConfig) -> Accelerator:
    """Of the configured precision.

    Raises:
        UserError: fp16 without a GPU, which accelerate would replace by float32 without a word.
    """
    AcceleratorState._reset_state(
        reset_partial_state=False
    )  # an earlier run in this process may have had another precision
    GradientState._reset_state()
    precision = {"fp32": "no"}.get(cfg.recipe.precision, cfg.recipe.precision)
    tracker = None if cfg.tracker.name == "none" else cfg.tracker.name
    # without cpu=True, accelerate would run the processes of a CPU torchrun apart from each other
    cpu = not torch.cuda.is_available()
    if cpu and cfg.recipe.precision == "fp16":
        raise UserError(
            "recipe.precision: fp16 needs a GPU, here is none; allowed are fp32 and bf16: recipe.precision=bf16"
        )
    return Accelerator(mixed_precision=precision, log_with=tracker, project_dir=cfg.output_dir, cpu=cpu)
