"""The budget's phases, fitted to the real number of steps of a run."""

from lora2.config.methods import BudgetConfig
from lora2.config.schema import RecipeConfig, RunConfig
from lora2.core.budget import phases_fit, require_phases, require_target, shrink_phases


def settle_budget(cfg: RunConfig, train_examples: int) -> tuple[RunConfig, list[str]]:
    """Fit the budget schedule to the run.

    Args:
        cfg: the settings as they were asked for.
        train_examples: the number of examples that the run trains on.

    Returns:
        The settings whose schedule fits, and a note for each thing that was changed for it.

    Raises:
        UserError: the schedule does not fit and budget.scale is strict, or no schedule would.
    """
    if cfg.budget is None or cfg.rank is None:
        return cfg, []
    total, budget = cfg.recipe.total_steps(train_examples), cfg.budget
    if phases_fit(total, budget.t_i, budget.t_f) or budget.scale == "strict":
        require_target(max(1, round(budget.target_rank)), cfg.rank.r)
        require_phases(total, budget.t_i, budget.t_f)
        return cfg, []
    t_i, t_f = shrink_phases(total, budget.t_i, budget.t_f)
    require_phases(total, t_i, t_f)  # a run may have too few steps for any schedule
    scaled = BudgetConfig(**{**budget.model_dump(), "t_i": t_i, "t_f": t_f})
    note = f"budget.scale=auto: {total} steps, so t_i {budget.t_i} -> {t_i} and t_f {budget.t_f} -> {t_f}"
    return cfg.model_copy(update={"budget": scaled}), [note]


def limit_notes(recipe: RecipeConfig, train_examples: int) -> list[str]:
    """Say that recipe.max_steps lies beyond the last epoch, where it does: it shortens a run and never lengthens it."""
    total = recipe.total_steps(train_examples)
    if recipe.max_steps is None or recipe.max_steps <= total:
        return []
    return [
        f"recipe.max_steps={recipe.max_steps}: given, but without effect here ({recipe.epochs} epochs end after "
        f"{total} steps; recipe.epochs=N makes a run longer)"
    ]
