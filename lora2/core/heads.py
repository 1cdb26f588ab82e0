"""The classification head of a model, found by structure: what lies outside the encoder, and the encoder's pooler."""

from torch import nn


def head_modules(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules that are a classifier's head, in the model's order.

    transformers puts the encoder under `base_model_prefix` and the layers of a task beside it. They are a head if the
    last of them gives as many outputs as there are labels. A language model's output layer is none.

    Args:
        model: any module; one without a head gives an empty tuple.
    """
    prefix = getattr(model, "base_model_prefix", "")
    encoder = getattr(model, prefix, None) if prefix else None
    if not isinstance(encoder, nn.Module):
        return ()
    outside = {name: child for name, child in model.named_children() if name not in (prefix, "lora2")}
    labels = getattr(getattr(model, "config", None), "num_labels", None)
    outputs = [x.out_features for child in outside.values() for x in child.modules() if isinstance(x, nn.Linear)]
    if labels not in outputs:
        return ()
    pooler = getattr(encoder, "pooler", None)
    pooled = (f"{prefix}.pooler",) if isinstance(pooler, nn.Module) and _size(pooler) else ()
    return (*pooled, *(name for name, child in outside.items() if _size(child)))


def head_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the named parameters of pooler and classifier, which every method trains and which are counted apart.

    Args:
        model: a sequence classifier; any other model has none.
    """
    prefixes = tuple(f"{name}." for name in head_modules(model))
    return [(name, p) for name, p in model.named_parameters() if name.startswith(prefixes)]


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
