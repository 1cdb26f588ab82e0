"""The part of a run that needs torch: build, train, check, save, record."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import save
from torch import nn

from lora2.common.errors import UserError
from lora2.common.files import write_whole
from lora2.common.signals import heed_signals
from lora2.common.voice import say
from lora2.config.deviations import Deviations
from lora2.config.schema import RunConfig
from lora2.glue.heldout import train_size
from lora2.glue.raw import RawTask
from lora2.models.backbone import quiet_transformers
from lora2.models.checksum import weights_hash
from lora2.runs.provenance import provenance
from lora2.runs.record import RunRecord, read_record, record_path
from lora2.training.build import build_accelerator, build_trainer
from lora2.training.captured.choice import capture_notes
from lora2.training.checkpoint import Checkpoint, CheckpointFolder
from lora2.training.data import load_task_data
from lora2.training.failure import Failure, explain
from lora2.training.loop import RunControl, Trainer
from lora2.training.opening import opening
from lora2.training.recording import (
    RunResult,
    device_name,
    failed_record,
    finished_record,
    is_shortened,
    known_fields,
    peak_memory,
    save_record,
    way_of_computing,
)
from lora2.training.state import TrainState, trained_parameters
from lora2.training.tracking.tracker import Tracking

MERGE_TOLERANCE = 1e-3  # share of the largest logit by which merging may change one: float32's rounding, and the depth
CHECKED_EXAMPLES = 256  # of the dev set, on which the forms of the model are compared
CHECKPOINTS = "checkpoints"


def execute(
    cfg: RunConfig,
    raw: RawTask,
    *,
    run_id: str,
    setting_id: str,
    notes: list[str],
    deviations: Deviations,
    started: float,
) -> RunRecord:
    """Train, then write the record, whatever happened.

    Args:
        notes: for the record; what the run notices is added.
        deviations: what the run does otherwise than its recipe says.
        started: time.perf_counter() when the run began.

    Returns:
        The record of the run as it was written.

    Raises:
        UserError: a mistake of the user's that shows only now; there is no record.
        StorageError: the record could not be written.
    """
    if cfg.log != "debug":
        quiet_transformers()
    tracker = None if cfg.tracker.name == "none" else cfg.tracker.name
    accelerator = build_accelerator(cfg.recipe.precision, tracker, cfg.output_dir)
    notes += capture_notes(cfg.step, accelerator)
    known = known_fields(cfg, raw, run_id, setting_id, notes, deviations)
    if is_shortened(cfg.recipe, train_size(len(raw.splits["train"]), cfg.selection)):
        known["caveats"].append("shortened")
    checkpoints = CheckpointFolder(Path(cfg.output_dir) / run_id / CHECKPOINTS, run_id)
    tracking = Tracking(accelerator, cfg, run_id, setting_id)
    earlier = _content(record_path(cfg.results_dir, run_id))
    failure: Failure | None = None
    try:
        with heed_signals() as stop:
            control = _control(cfg, checkpoints, tracking, stop)
            result = _train(cfg, raw, accelerator, control, checkpoints, tracking, notes)
    except UserError:
        raise
    except Exception as error:  # the sweep goes on; the record says what it was
        failure = explain(error)
        if not failure.expected:
            traceback.print_exc()
        record = failed_record(known, failure)
    else:
        record = finished_record(known, result, time.perf_counter() - started)
    record.provenance = provenance(device_name(accelerator.device)) | way_of_computing(cfg, accelerator)
    record.memory = peak_memory(accelerator.device)
    if failure is None or failure.together:
        # after any other end the run can go on from its last checkpoint
        over = record.status == "ok" or (failure is not None and failure.repeats)
        _end_together(record, cfg.results_dir, accelerator, checkpoints if over else None)
    else:
        record = _end_alone(record, cfg.results_dir, accelerator, earlier)
    tracking.finish(record)
    return record


def _control(cfg: RunConfig, checkpoints: CheckpointFolder, tracking: Tracking, stop: Callable[[], bool]) -> RunControl:
    return RunControl(
        checkpoints=checkpoints,
        every=cfg.checkpoint,
        stop=stop,
        log=tracking.log,
        folder=checkpoints.path.parent,
    )


def _train(
    cfg: RunConfig,
    raw: RawTask,
    accelerator: Accelerator,
    control: RunControl,
    checkpoints: CheckpointFolder,
    tracking: Tracking,
    notes: list[str],
) -> RunResult:
    # build
    with _main_first(accelerator):
        data = load_task_data(cfg, raw)
        if cfg.force and accelerator.is_main_process:
            checkpoints.clear()
    trainer = build_trainer(cfg, data, accelerator, control)
    frozen = [name for name, p in trainer.model.named_parameters() if not p.requires_grad]
    frozen_hash = weights_hash(trainer.model, frozen)

    # train
    found = _find_checkpoint(checkpoints, notes)
    if found is not None:
        tracking.replay(found.state["train_state"]["history"])
    for line in opening(checkpoints.run_id, cfg, trainer, 0 if found is None else found.step):
        say(line)
    state = trainer.fit(found)
    if cfg.budget is not None and state.best_step <= trainer.total_steps - cfg.budget.t_f:
        notes.append(f"the best checkpoint, step {state.best_step}, is from before the final ranks were fixed")

    # check
    counts = trainer.method.count_parameters()
    checks = {
        "budget_met": True,  # count_parameters raises otherwise
        "frozen_weights_unchanged": weights_hash(trainer.model, frozen) == frozen_hash,
        **_check_forms(trainer),
    }

    # save
    if accelerator.is_main_process:
        _save_weights(checkpoints.path.parent, state, trainer)
    return RunResult(
        state=state,
        main_metric=data.task.main_metric,
        counts=counts,
        checks=checks,
        hashes={"frozen_weights": frozen_hash},
    )


def _find_checkpoint(checkpoints: CheckpointFolder, notes: list[str]) -> Checkpoint | None:
    """Return the checkpoint to go on from, if any; note what is wrong with others.

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


def _check_forms(trainer: Trainer) -> dict[str, bool]:
    """Return whether the merged and the exported model, where there is one, compute what the trained one does.

    All of them compute in float32 here, whatever the run did: in 16 bits W + ΔW is rounded as a whole, and the
    comparison would judge that rounding, which grows with ΔW, instead of the merge. Training is over: the model
    computes in float32 from here on.
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    checks = {"merged_equals_unmerged": _difference(trainer, model, trainer.method.merged()) <= MERGE_TOLERANCE}
    exported = trainer.method.exported()
    if exported is not None:
        checks["exported_equals_unmerged"] = _difference(trainer, model, exported) <= MERGE_TOLERANCE
    return checks


def _difference(trainer: Trainer, model: nn.Module, form: AbstractContextManager[None]) -> float:
    """Return the largest difference of logits inside and outside `form`, relative to the largest logit."""
    data, evaluator = trainer.data, trainer.evaluator
    dev = data.splits[data.task.dev_splits[0]]
    split = dev.take(np.arange(min(CHECKED_EXAMPLES, len(dev))))
    model.eval()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 has no more digits than 16 bits have
    try:
        with torch.no_grad():
            plain = evaluator.logits(model, split)
            with form:
                other = evaluator.logits(model, split)
    finally:
        torch.set_float32_matmul_precision(precision)
    return float(abs(other - plain).max() / max(1.0, abs(plain).max()))


def _save_weights(folder: Path, state: TrainState, trainer: Trainer) -> None:
    """Write the trained weights, best and last, as safetensors."""
    last = {name: p.detach().to("cpu", copy=True) for name, p in trained_parameters(trainer.method).items()}
    for name, weights in (("best", state.best_weights), ("last", last)):
        write_whole(folder / f"{name}.safetensors", save(weights, metadata={"format": "pt"}))


# ------------------------------------------------------------------------------------------------ the end of a run


def _end_together(
    record: RunRecord, results_dir: str, accelerator: Accelerator, spent: CheckpointFolder | None
) -> None:
    """End where every process of the run ends for the same reason: the first one writes, the others wait for it.

    Args:
        spent: checkpoints that nobody needs any more.
    """
    if accelerator.is_main_process:
        save_record(record, results_dir)
        if spent is not None:
            spent.clear()
    accelerator.wait_for_everyone()  # gloo may abort when a process ends while another still talks


def _end_alone(record: RunRecord, results_dir: str, accelerator: Accelerator, earlier: bytes | None) -> RunRecord:
    """End where this process fails by itself, so that nobody can be waited for; returns the record of the run.

    The first process to fail writes the record. The others then fail because they lost it, which is no news.

    Args:
        earlier: what the record's file held when the run began.
    """
    path = record_path(results_dir, record.run_id)
    if _content(path) != earlier:
        return read_record(path)
    if accelerator.num_processes > 1:
        record.error = f"process {accelerator.process_index} of {accelerator.num_processes}: {record.error}"
    save_record(record, results_dir)
    return record


def _content(path: Path) -> bytes | None:
    """Return what a file holds; None if there is none."""
    return path.read_bytes() if path.exists() else None


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
