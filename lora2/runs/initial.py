"""Whether a run can start from the adapter that `init_from` names: known before torch is imported."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora2.common.errors import UserError
from lora2.config.initial import FACTORS, adapter_file, adapter_hash
from lora2.config.schema import RunConfig
from lora2.config.tree import flatten
from lora2.runs.finished import find_record, finished_run
from lora2.runs.places import record_paths
from lora2.runs.record import RunRecord

EXPORT_FACTS = "lora2_export.json"  # marks a folder as ours, so that it may be replaced
EQUAL = (  # what gives an adapter its shapes and its ΔW
    "method.name",
    "method.targets",
    "rank.k",
    "rank.r",
    "rank.alpha",
    "model.model_type",
    "model.architecture.hidden_size",
    "model.architecture.num_hidden_layers",
)


@dataclass(frozen=True)
class Source:
    """Where an adapter comes from.

    Attributes:
        run_id: of the run that trained it.
        path: of its weights.
        settings: the run's, by the dotted paths of EQUAL.
        frozen_weights: SHA-256 of the backbone that it was trained on.
    """

    run_id: str
    path: Path
    settings: dict[str, Any]
    frozen_weights: str


def source_facts(record: RunRecord, cfg: RunConfig) -> dict[str, Any]:
    """Return what an export tells of its run, so that another run can start from it."""
    settings = flatten(cfg.model_dump(mode="json"))
    return {
        "settings": {path: settings.get(path) for path in EQUAL},
        "frozen_weights": record.hashes.get("frozen_weights", ""),
    }


def find_source(cfg: RunConfig) -> Source:
    """Return the adapter that the run is to start from.

    Raises:
        UserError: there is none, or one of other settings; names the first that differs.
    """
    assert cfg.init_from is not None
    path = adapter_file(cfg.init_from, cfg.output_dir)
    if not path.is_file():
        raise UserError(
            f"init_from: got {cfg.init_from!r}, no weights in {path}; name a finished run whose weights lie in "
            f"output_dir, or the folder of a run or of an export: init_from=RUN_ID or init_from=DIR"
        )
    source = _exported(path) if path.name == FACTORS else _trained(path, cfg)
    wanted = flatten(cfg.model_dump(mode="json"))
    for name in EQUAL:
        if source.settings.get(name) != wanted.get(name):
            raise UserError(
                f"{name}: got {wanted.get(name)!r}, and the adapter of init_from={cfg.init_from} has "
                f"{source.settings.get(name)!r}; the two must agree: {name}={source.settings.get(name)}"
            )
    return source


def source_notes(cfg: RunConfig) -> list[str]:
    """Say what the run starts from; nothing for one that starts from nothing.

    Raises:
        UserError: as find_source.
    """
    if cfg.init_from is None:
        return []
    source = find_source(cfg)
    return [f"init_from: starts from the adapter of {source.run_id} (SHA-256 {adapter_hash(cfg)}), with a fresh head"]


def _exported(path: Path) -> Source:
    facts_file = path.parent / EXPORT_FACTS
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        return Source(facts["run_id"], path, dict(facts["settings"]), facts["frozen_weights"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"init_from: {facts_file} cannot be read ({type(error).__name__}: {error}); export the run again "
            f"with scripts/export.py"
        ) from None


def _trained(path: Path, cfg: RunConfig) -> Source:
    run = path.parent.resolve().name
    places = [record.parent.parent for record in record_paths(cfg.results_dir, run)]
    record, settings = finished_run(str(find_record(run, places)), Path(cfg.results_dir))
    facts = source_facts(record, settings)
    return Source(record.run_id, path, facts["settings"], facts["frozen_weights"])
