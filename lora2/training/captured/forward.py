"""What must be kept from a backbone's forward pass so that it can be captured: reading the device, and host tensors.

Each mend is given to one model; nothing of transformers is replaced for others. tests/training/test_captured.py fails
when a mend is no longer needed, and when it is no longer enough.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lora2.models.deberta import use_lean_attention

MASKED_BY_LIBRARY = ("bert", "roberta", "mpnet")  # their masks are made by transformers.masking_utils


def make_capturable(model: nn.Module) -> None:
    """Let the model's forward pass run on the device alone, from the second pass of each width on.

    Args:
        model: bert, roberta, deberta-v2 or mpnet with a classification head; another model is left as it is.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in MASKED_BY_LIBRARY:
        # inside of the autocast that accelerate puts around the model's own forward pass
        model.get_submodule(kind).register_forward_pre_hook(_with_whole_mask, with_kwargs=True)
    use_lean_attention(model)  # transformers' own copies numbers of the host to the device
    if kind == "mpnet":
        encoder: Any = model.get_submodule("mpnet.encoder")
        encoder.compute_position_bias = PositionBias(encoder)


def _with_whole_mask(model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Give an encoder its attention mask as a term of the scores, (b, 1, s, s), which it takes as it is.

    Of a mask (b, s) transformers asks whether it masks anything, which reads the device (seen in 5.23), and 5.17 makes
    a tensor of the host's for the attention that is not fused. The fused one makes this term in every layer itself.
    """
    mask: Tensor | None = kwargs.get("attention_mask")  # (b, s)
    if mask is None:
        return args, kwargs
    dtype: torch.dtype = torch.float32
    lowest = torch.finfo(dtype).min
    if model.config._attn_implementation == "sdpa":
        device = mask.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype
        lowest = -torch.inf
    term = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask == 0, lowest)
    return args, {**kwargs, "attention_mask": term[:, None, None, :].expand(-1, 1, mask.shape[1], -1)}


class PositionBias:
    """MPNet's bias of relative positions, with its buckets made once for each width.

    5.17 makes the buckets on the host and copies them to the device; 5.23 makes them on the device, in every pass.

    Args:
        encoder: the model's; its table of biases may be trained, so only the buckets are kept.
    """

    def __init__(self, encoder: Any) -> None:
        self._table, self._to_buckets = encoder.relative_attention_bias, encoder.relative_position_bucket
        self._made: dict[tuple[int, torch.device], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Return the bias of the attention scores, (b, heads, s, s), for hidden states (b, s, d)."""
        key = (x.shape[1], x.device)
        if key not in self._made:
            with torch.inference_mode(False):  # else no later pass could train with them
                places = torch.arange(x.shape[1])
                self._made[key] = self._to_buckets(places[None, :] - places[:, None]).to(x.device)  # (s, s)
        bias: Tensor = self._table(self._made[key]).permute(2, 0, 1)  # (heads, s, s)
        return bias.expand(len(x), -1, -1, -1).contiguous()
