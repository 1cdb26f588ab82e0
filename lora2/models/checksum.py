"""A checksum of a model's weights."""

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def weights_hash(model: nn.Module, names: Iterable[str] | None = None) -> str:
    """Return the SHA-256, 64 hex digits, over the bytes of parameters in the order of their names.

    Args:
        model: whose parameters, on any device.
        names: which of them; None takes all.
    """
    parameters = dict(model.named_parameters())
    digest = hashlib.sha256()
    for name in sorted(parameters if names is None else names):
        digest.update(name.encode())
        digest.update(parameters[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
