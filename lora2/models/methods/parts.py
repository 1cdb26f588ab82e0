"""The parts of an adapted model: the frozen backbone, the adapter, and the head that every method trains."""

from torch import nn

from lora2.core.heads import head_parameters


def backbone_size(model: nn.Module) -> int:
    """Count the parameters outside the head; call it before anything is inserted into `model`."""
    head = sum(p.numel() for _, p in head_parameters(model))
    return sum(p.numel() for p in model.parameters()) - head


def trained_parts(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Unfreeze the head, and return the parameters of adapter and head by name.

    Args:
        model: in which everything but the adapter is frozen.
    """
    head = dict(head_parameters(model))
    for parameter in head.values():
        parameter.requires_grad_()
    adapter = {name: p for name, p in model.named_parameters() if p.requires_grad and name not in head}
    return adapter, head


def size(parameters: dict[str, nn.Parameter]) -> int:
    """Count the numbers that these parameters hold."""
    return sum(p.numel() for p in parameters.values())
