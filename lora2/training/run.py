"""One run from its settings to its exit code: what can go wrong is found before a model is loaded."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora2.common.errors import BusyError
from lora2.common.files import StorageError
from lora2.common.voice import logged, say, speaking
from lora2.config.deviations import NO_DEVIATION, Deviations, deviation_notes, deviations
from lora2.config.identity import run_id, setting_id
from lora2.config.overrides import shell_command
from lora2.config.resolve import resolve_with_origins
from lora2.config.schedule import limit_notes, settle_budget
from lora2.config.schema import RunConfig
from lora2.config.task import load_data, with_labels
from lora2.config.unused import given_settings, unused_settings
from lora2.glue.heldout import train_size
from lora2.models.weights import weight_source
from lora2.runs.caveats import named
from lora2.runs.initial import source_notes
from lora2.runs.lock import sole_owner
from lora2.runs.places import record_paths
from lora2.runs.reason import give_reason
from lora2.runs.record import RunRecord, read_record, record_path
from lora2.training.environment import check_environment, forget_variables

LOG = "run.log"  # in the run's folder: what it said, over all its parts


def run_composed(
    composed: dict[str, Any],
    words: Sequence[str],
    configs: Path,
    export: Path | None = None,
    forgotten: Sequence[str] = (),
) -> int:
    """Do the run of a command line, and return its exit code; as `run`.

    Args:
        composed: the settings that Hydra or config/compose.py makes of the command line.
        words: the command line.
        configs: the folder that holds train.yaml and the groups.
        export: as for `run`.
        forgotten: notes of forget_variables, where the process has called it before.

    Raises:
        UserError, BusyError: as for `run`.
    """
    given = given_settings(words, configs)
    cfg, origins = resolve_with_origins(composed, given)
    remarks = [*forgotten, *unused_settings(cfg, given, origins)]
    return run(cfg, remarks, deviations(composed, cfg, configs), export)


def run(
    cfg: RunConfig,
    remarks: Sequence[str] = (),
    deviating: Deviations = NO_DEVIATION,
    export: Path | None = None,
) -> int:
    """Do the run unless its record is there already, and return the exit code.

    Args:
        cfg: all its settings.
        remarks: notes for the record on how it was asked for.
        deviating: what the run does otherwise than its recipe says.
        export: the script to name in the command that takes the adapter away, scripts/export.py.

    Returns:
        0 done, 1 failed, 128 + signal stopped.

    Raises:
        UserError: a mistake in the settings or the data.
        BusyError: another process is doing the run.
    """
    with speaking(cfg.log):
        return _run(cfg, remarks, deviating, export)


def _run(cfg: RunConfig, remarks: Sequence[str], deviating: Deviations, export: Path | None) -> int:
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
    changes = deviation_notes(cfg.recipe.name, deviating)
    notes = [*forgotten, *remarks, *changes, *raw.warnings, *limit_notes(cfg.recipe, examples), *adapted]
    weights = None if cfg.model.random_init else weight_source(cfg.model)  # fetched, or refused
    notes += source_notes(cfg)
    if weights is not None:
        from lora2.models.head import head_notes  # imports torch

        notes += head_notes(cfg.model, weights, raw.spec.num_labels)
    folder = Path(cfg.output_dir) / name
    try:
        with sole_owner(folder), logged(folder / LOG):
            for note in notes:
                say(f"{name}: note: {note}")
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
                deviations=deviating,
                started=started,
            )
            _tell_end(record, path, export)
    except StorageError as error:  # there is no record to tell of it
        say(f"{name}: failed: {error}", at="quiet")
        give_reason(f"failed: {error}")
        return 1
    if record.status == "ok":
        return 0
    give_reason(f"{record.status}: {record.error}")
    return exit_code() if record.status == "cancelled" else 1


def _is_done(cfg: RunConfig, path: Path) -> bool:
    return path.exists() and not cfg.force and read_record(path).status == "ok"


def _tell_end(record: RunRecord, path: Path, export: Path | None) -> None:
    """Say how the run ended, in one line; then best, last, parameters, and what can be done with it."""
    metrics, counts = record.metrics, record.counts
    if record.status != "ok" or metrics is None or counts is None:
        say(f"{record.run_id}: {record.status}: {record.error}; record in {path}", at="quiet")
        return
    say(named(f"{record.run_id}: ok: {_shown(metrics.best)}", record.caveats), at="quiet")
    lines = {
        "best": f"{_shown(metrics.best)}  step {metrics.best_step:,}",
        "last": f"{_shown(metrics.last)}  step {record.steps:,}",
        "trained": f"adapter {counts.adapter:,}, active after pruning {counts.active_adapter:,}, head {counts.head:,}",
        "record": str(path),
    }
    if export is not None and record.config.method == "lora2":
        lines["export"] = shell_command(export, ["lora", str(path)])
    for label, text in lines.items():
        say(f"  {label:7}  {text}")


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
