"""One run from its settings to its exit code: what can go wrong is found before torch is imported."""

import time
from collections.abc import Sequence
from pathlib import Path

from lora2.common.errors import BusyError
from lora2.common.files import StorageError
from lora2.common.terminal import say
from lora2.config.identity import run_id, setting_id
from lora2.config.schedule import limit_notes, settle_budget
from lora2.config.schema import RunConfig
from lora2.config.task import load_data, with_labels
from lora2.glue.heldout import train_size
from lora2.models.weights import head_notes, weight_source
from lora2.runs.caveats import named
from lora2.runs.initial import source_notes
from lora2.runs.lock import sole_owner
from lora2.runs.places import record_paths
from lora2.runs.reason import give_reason
from lora2.runs.record import RunRecord, read_record, record_path
from lora2.training.environment import check_environment, forget_variables


def run(cfg: RunConfig, remarks: Sequence[str] = ()) -> int:
    """Do the run unless its record is there already, and return the exit code.

    Args:
        cfg: all its settings.
        remarks: notes for the record on how it was asked for.

    Returns:
        0 done, 1 failed, 128 + signal stopped.

    Raises:
        UserError: a mistake in the settings or the data.
        BusyError: another process is doing the run.
    """
    started = time.perf_counter()
    check_environment(cfg.tracker.name)
    forgotten = forget_variables()
    raw = load_data(cfg)
    name = run_id(cfg, raw.fingerprint)
    path = record_path(cfg.results_dir, name)
    for known in record_paths(cfg.results_dir, name):
        if _is_done(cfg, known):
            say(f"{name}: done already, see {known}; force=true runs it again")
            return 0
    examples = train_size(len(raw.splits["train"]), cfg.selection)
    settled, adapted = settle_budget(with_labels(cfg, raw), examples)
    notes = [*remarks, *forgotten, *raw.warnings, *limit_notes(cfg.recipe, examples), *adapted]
    if not cfg.model.random_init:
        folder = weight_source(cfg.model)  # fetched, or refused
        notes += head_notes(cfg.model, folder, raw.spec.num_labels)
    notes += source_notes(cfg)
    for note in notes:
        say(f"{name}: note: {note}")
    try:
        with sole_owner(Path(cfg.output_dir) / name):
            from lora2.common.signals import exit_code
            from lora2.training.session import execute  # imports torch

            if _is_done(cfg, path):
                raise BusyError(f"{name}: another process has just done this run, see {path}")
            record = execute(
                settled,
                raw,
                run_id=name,
                setting_id=setting_id(cfg, raw.fingerprint),
                notes=notes,
                started=started,
            )
    except StorageError as error:  # there is no record to tell of it
        say(f"{name}: failed: {error}")
        give_reason(f"failed: {error}")
        return 1
    say(f"{name}: {record.status}{'' if record.error is None else ': ' + record.error}; record in {path}")
    for line in _summary(record):
        say(f"{name}: {line}")
    if record.status == "ok":
        return 0
    give_reason(f"{record.status}: {record.error}")
    return exit_code() if record.status == "cancelled" else 1


def _is_done(cfg: RunConfig, path: Path) -> bool:
    return path.exists() and not cfg.force and read_record(path).status == "ok"


def _summary(record: RunRecord) -> list[str]:
    """Return a line on the metrics and one on the parameters; nothing for a run that did not end."""
    if record.metrics is None or record.counts is None:
        return []
    best, last = map(_shown, (record.metrics.best, record.metrics.last))
    counts = record.counts
    return [
        named(f"best (step {record.metrics.best_step}): {best}; last: {last}", record.caveats),
        f"parameters: adapter {counts.adapter:,}, active after pruning {counts.active_adapter:,}, head {counts.head:,}",
    ]


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
