"""From what a run did to its record on disk."""

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from lora2.common.errors import UserError
from lora2.common.files import StorageError
from lora2.config.deviations import NO_DEVIATION, Deviations, has_fewer_epochs
from lora2.config.schema import RecipeConfig, RunConfig
from lora2.glue.raw import RawTask
from lora2.models.methods.base import ParameterCounts
from lora2.runs.caveats import Caveat, in_order
from lora2.runs.format import Checkpoint
from lora2.runs.provenance import cpu_name
from lora2.runs.record import Counts, Metrics, RecordConfig, RunRecord, Timing, read_record, record_path, write_record
from lora2.training.captured.choice import captures
from lora2.training.failure import Failure
from lora2.training.state import TrainState


@dataclass(frozen=True)
class RunResult:
    """What a run that went to its end has to tell.

    Attributes:
        main_metric: of the task, which chose the best evaluation.
        checks: by name, whether each check of the run on itself passed.
        hashes: of what went into the run, by name.
    """

    state: TrainState
    main_metric: str
    counts: ParameterCounts
    checks: dict[str, bool]
    hashes: dict[str, str]


def known_fields(
    cfg: RunConfig,
    raw: RawTask,
    run_id: str,
    setting_id: str,
    notes: list[str],
    deviations: Deviations = NO_DEVIATION,
) -> dict[str, Any]:
    """Return the fields of a record that are known before anything was trained."""
    return {
        "run_id": run_id,
        "config": record_config(cfg, setting_id),
        "synthetic": raw.synthetic,
        "model_random_init": cfg.model.random_init,
        "notes": notes,
        "caveats": [*data_caveats(raw), *recipe_caveats(deviations)],
        "hashes": {"data": raw.fingerprint},
    }


def finished_record(known: dict[str, Any], result: RunResult, wall: float) -> RunRecord:
    """Return the record of a run that went to its end.

    Args:
        known: as `known_fields` returned them.
        wall: seconds since the run's process began.
    """
    state = result.state
    failed = [name for name, passed in result.checks.items() if not passed]
    constant: list[Checkpoint] = ["best"] if state.best_is_constant else []
    constant += ["last"] if state.last_is_constant else []
    own = {
        "random weights": known["model_random_init"],
        "check failed": bool(failed),
        "collapsed": bool(constant),
    }
    caveats = in_order([*known["caveats"], *(kind for kind, holds in own.items() if holds)])
    return RunRecord(
        **known | {"hashes": known["hashes"] | result.hashes, "caveats": list(caveats)},
        status="failed" if failed else "ok",
        error=f"checks failed: {', '.join(failed)}" if failed else None,
        constant=constant,
        metrics=Metrics(best=state.best, last=state.last, best_step=state.best_step, main=result.main_metric),
        counts=counts_of(result.counts),
        ranks=result.counts.ranks,
        masks=result.counts.masks,
        padding_share=1 - state.tokens / state.padded_tokens,
        steps=state.steps,
        tokens=state.tokens,
        padded_tokens=state.padded_tokens,
        history=state.history,
        checks=result.checks,
        timing=_timing(state, wall),
    )


def failed_record(known: dict[str, Any], failure: Failure) -> RunRecord:
    """Return the record of a run that did not.

    Args:
        known: as `known_fields` returned them.
        failure: what ended it.
    """
    caveats = in_order([*known["caveats"], *(["diverged"] if failure.repeats else [])])
    return RunRecord(**known | {"caveats": list(caveats)}, status=failure.status, error=failure.reason)


def data_caveats(raw: RawTask) -> list[Caveat]:
    """Return what the data alone makes of every number that comes from it."""
    holds: dict[Caveat, bool] = {
        "synthetic": raw.synthetic,
        "other data": bool(raw.warnings),
        "rows dropped": raw.has_dropped_rows,
    }
    return [caveat for caveat, held in holds.items() if held]


def recipe_caveats(deviations: Deviations) -> list[Caveat]:
    """Return what a run's own changes make of the name of its recipe; fewer epochs alone only shorten it."""
    shortened = has_fewer_epochs(deviations)
    holds: dict[Caveat, bool] = {"shortened": shortened, "recipe changed": len(deviations) > shortened}
    return [caveat for caveat, held in holds.items() if held]


def is_shortened(recipe: RecipeConfig, train_examples: int) -> bool:
    """Return whether `max_steps` ends a run before the recipe's last epoch does."""
    whole = recipe.model_copy(update={"max_steps": None})
    return recipe.total_steps(train_examples) < whole.total_steps(train_examples)


def counts_of(counts: ParameterCounts) -> Counts:
    """Return the counts as a record holds them: without the ranks, which it keeps apart."""
    return Counts(
        adapter=counts.adapter, active_adapter=counts.active_adapter, head=counts.head, backbone=counts.backbone
    )


def _timing(state: TrainState, wall: float) -> Timing:
    seconds, train = dict(state.seconds), state.train_seconds
    evaluation = seconds.pop("eval", 0.0)
    return Timing(
        wall_s=wall,
        train_s=train,
        eval_s=evaluation,
        seconds_per_step=train / state.steps,
        tokens_per_s=state.tokens / train,
        shares={name: value / train for name, value in sorted(seconds.items())},
    )


def record_config(cfg: RunConfig, setting_id: str) -> RecordConfig:
    """Return what a record says of the settings."""
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
        resolved=cfg.model_dump(mode="json", exclude={"log"}),
    )


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with its threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {torch.get_num_threads()} threads"


def way_of_computing(cfg: RunConfig, accelerator: Accelerator) -> dict[str, bool]:
    """Return what a record says of how its numbers were computed, besides on which device.

    Returns:
        captured: steps were CUDA graphs. tf32: float32 products were rounded to TF32. deterministic: the same command
        gives the same bits on the same machine.
    """
    cpu = accelerator.device.type == "cpu"
    return {
        "captured": captures(cfg.step, accelerator),
        "tf32": not cpu and torch.get_float32_matmul_precision() != "highest",
        "deterministic": cpu or cfg.deterministic is not False,
    }


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the peak bytes of this process and, with a GPU, of torch's allocator there."""
    peak = {"process_bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if device.type == "cuda":
        peak["device_bytes"] = float(torch.cuda.max_memory_allocated(device))
    return peak


def save_record(record: RunRecord, results_dir: str) -> None:
    """Write the record, unless it tells of a failure and there is a good one of an earlier run.

    Raises:
        StorageError: it could not be written; says also what else went wrong.
    """
    path = record_path(results_dir, record.run_id)
    if record.status != "ok" and _ended_well(path):
        record.notes.append("not written: the record of an earlier run, which ended well, is kept")
        return
    try:
        write_record(record, results_dir)
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", None)
        if record.error and reason and reason in record.error:  # one disk, one message
            raise StorageError(f"{record.error}; the record could not be written either: {path}") from error
        raise StorageError(f"{record.error}; {error}" if record.error else str(error)) from error


def _ended_well(path: Path) -> bool:
    """Whether there is a record of a run that ended well."""
    try:
        return path.exists() and read_record(path).status == "ok"
    except UserError:  # damaged, or of another version: it may be replaced
        return False
