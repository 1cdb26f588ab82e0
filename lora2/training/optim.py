"""The recipe's optimisation: which parameters decay, at what rate each learns, how the rate runs over the steps."""

from lora2.config.schema import RecipeConfig
from lora2.models.methods.base import Method


def linear_schedule(step: int, warmup: int, total: int) -> float:
    """Return the factor on the learning rate: from 0 to 1 over `warmup` steps, then down to 0 at `total`.

    It is HF's linear schedule. A warm-up given as a ratio is cut to whole steps; HF rounds it up.
    """
    if step < warmup:
        return step / warmup
    return (total - step) / max(1, total - warmup)


def warmup_steps(recipe: RecipeConfig, total: int) -> int:
    """Return the steps of warm-up in a run of `total` steps."""
    return recipe.warmup_steps if recipe.warmup_steps is not None else int((recipe.warmup_ratio or 0) * total)


def optimizer_groups(method: Method, recipe: RecipeConfig) -> list[dict[str, object]]:
    """Return AdamW's groups: the method's, each cut into weights that decay, and biases and norms that do not.

    HF's Trainer, with which the authors' scripts ran, spares the same.
    """
    groups: list[dict[str, object]] = []
    for group in method.groups:
        spared = {x for x in group.parameters if not group.decays or x.endswith("bias") or "LayerNorm" in x}
        for decays in (True, False):
            members = [p for name, p in group.parameters.items() if (name not in spared) == decays]
            if members:
                decay = recipe.weight_decay if decays else 0.0
                groups.append({"params": members, "lr_scale": group.lr_scale, "weight_decay": decay})
    return groups
