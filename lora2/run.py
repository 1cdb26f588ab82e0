"""One run from its settings to its exit code: what can go wrong is found before torch is imported."""

import sys
import time
from pathlib import Path

from lora2.budget import BudgetSchedule, fit_phases, fits
from lora2.config import BudgetConfig, RunConfig, run_id, setting_id
from lora2.glue.data import load_raw
from lora2.records import read_record, record_path


def say(text: str) -> None:
    """A line for the user; standard output is kept for results."""
    print(text, file=sys.stderr, flush=True)


def run(cfg: RunConfig) -> int:
    """Do the run unless its record is there already; returns the exit code (0 done, 1 the run failed).

    Raises:
        UserError: a mistake in the settings or the data.
    """
    started = time.perf_counter()
    raw = load_raw(cfg.task, cfg.data.source, None if cfg.data.dir is None else Path(cfg.data.dir))
    name, path = run_id(cfg, raw.fingerprint), record_path(cfg.results_dir, run_id(cfg, raw.fingerprint))
    if path.exists() and not cfg.force and read_record(path).status == "ok":
        say(f"{name}: done already, see {path}; force=true runs it again")
        return 0
    settled, notes = settle_budget(cfg, len(raw.splits["train"]))
    for note in (*raw.warnings, *notes):
        say(f"{name}: note: {note}")
    from lora2.session import execute  # imports torch

    record = execute(settled, raw, name, setting_id(cfg, raw.fingerprint), [*raw.warnings, *notes], started)
    say(f"{name}: {record.status}{'' if record.error is None else ': ' + record.error}; record in {path}")
    return 0 if record.status == "ok" else 1


def settle_budget(cfg: RunConfig, train_examples: int) -> tuple[RunConfig, list[str]]:
    """The settings with a budget schedule that fits the run's real number of steps, and what was changed for it.

    Raises:
        UserError: it does not fit and budget.scale is strict.
    """
    if cfg.budget is None or cfg.rank is None:
        return cfg, []
    total, budget = cfg.recipe.total_steps(train_examples), cfg.budget
    if fits(total, budget.t_i, budget.t_f) or budget.scale == "strict":
        BudgetSchedule(total, cfg.rank.r, max(1, round(budget.target_rank)), budget.t_i, budget.t_f)
        return cfg, []
    t_i, t_f = fit_phases(total, budget.t_i, budget.t_f)
    scaled = BudgetConfig(**{**budget.model_dump(), "t_i": t_i, "t_f": t_f})
    note = f"budget.scale=auto: {total} steps, so t_i {budget.t_i} -> {t_i} and t_f {budget.t_f} -> {t_f}"
    return cfg.model_copy(update={"budget": scaled}), [note]
