"""What an adapted model consists of: the frozen backbone, the adapter, and the head that every method trains."""

from torch import nn

from lora2.core.targets import head_parameters


def backbone_size(model: nn.Module) -> int:
    """Parameters outside the head; call it before anything is inserted."""
    head = sum(p.numel() for _, p in head_parameters(model))
    return sum(p.numel() for p in model.parameters()) - head


def trained_parts(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Adapter and head by name, once everything but the adapter is frozen; the head is unfrozen here."""
    head = dict(head_parameters(model))
    for parameter in head.values():
        parameter.requires_grad_()
    adapter = {name: p for name, p in model.named_parameters() if p.requires_grad and name not in head}
    return adapter, head


def size(parameters: dict[str, nn.Parameter]) -> int:
    """How many numbers these parameters hold."""
    return sum(p.numel() for p in parameters.values())
