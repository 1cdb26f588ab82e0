"""Run records made up for tests, and a results folder to put them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ROOT / "results" / "paper"
TIMING = {
    "wall_s": 3.0, "train_s": 2.0, "eval_s": 0.5, "seconds_per_step": 0.25, "tokens_per_s": 1.0,
    "shares": {"data": 0.1},
}  # fmt: skip
ALL = {"accuracy": 0.9, "f1": 0.88, "accuracy_mm": 0.91, "matthews": 0.7, "pearson": 0.92, "spearman": 0.9}


def record(**changes: Any) -> dict[str, Any]:
    """A finished run, every field of the schema; `changes` go to config where config has the key, else to the top."""
    config = {
        "model": "minilm", "task": "mrpc", "method": "lora2", "seed": 0, "variant": "lora2_k8", "recipe": "short",
        "data": "local", "experiment": "adhoc", "setting_id": "aaa", "resolved": {},
    }  # fmt: skip
    best = changes.pop("best", {"accuracy": 0.81, "f1": 0.87})
    top = {key: value for key, value in changes.items() if key not in config}
    config.update({key: value for key, value in changes.items() if key in config})
    names = ("model", "task", "variant", "recipe", "data", "setting_id", "seed")
    return {
        "schema_version": 1,
        "run_id": "-".join(str(config[name]) for name in names),
        "status": "ok",
        "error": None,
        "config": config,
        "metrics": {
            "best": best,
            "last": {key: value - 0.01 for key, value in best.items()},
            "best_step": 230,
            "main": next(iter(best)),
        },
        "counts": {"adapter": 1000, "active_adapter": 900, "head": 50, "backbone": 99},
        "ranks": {"layer.0.query": 8},
        "masks": {},
        "timing": TIMING,
        "padding_share": 0.1,
        "steps": 8,
        "tokens": 900,
        "padded_tokens": 1000,
        "notes": [],
        "caveats": [],
        "constant": [],
        "history": {},
        "checks": {},
        "hashes": {},
        "memory": {},
        "provenance": {},
        "verified": None,
        "synthetic": False,
        "model_random_init": False,
        **top,
    }


def deberta(**changes: Any) -> dict[str, Any]:
    return record(**{"model": "deberta_v3_base", "data": "hub", "recipe": "authors", "best": ALL, **changes})


def results_folder(path: Path) -> Path:
    """A results folder with the papers' numbers and no run yet."""
    (path / "runs").mkdir()
    (path / "paper").symlink_to(PAPERS)
    return path


def save(results: Path, *records: dict[str, Any]) -> None:
    for item in records:
        (results / "runs" / f"{item['run_id']}.json").write_text(json.dumps(item), encoding="utf-8")
