"""Which linear layers of a transformers model carry an adapter, and the parameters of its classification head."""

import difflib
import re
from collections.abc import Iterable, Sequence

from torch import nn

from lora2.common.errors import UserError
from lora2.core.heads import HEADS

_BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attn_output": "attention.output.dense",
    "ffn_w1": "intermediate.dense",
    "ffn_w2": "output.dense",
}
_DEBERTA = _BERT | {
    "query": "attention.self.query_proj",
    "key": "attention.self.key_proj",
    "value": "attention.self.value_proj",
}
_MPNET = _BERT | {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "attn_output": "attention.attn.o",
}
LAYOUTS: dict[str, dict[str, str]] = {"bert": _BERT, "roberta": _BERT, "deberta-v2": _DEBERTA, "mpnet": _MPNET}


def find_targets(model: nn.Module, wanted: Sequence[str]) -> dict[str, str]:
    """Return the matrix name ("layer.0.query") of every linear layer to adapt, by module name, in the model's order.

    Args:
        model: a transformers model (its `config.model_type` picks the layout) or any module.
        wanted: matrix names of MATRICES for encoders in LAYOUTS; for any other model the last parts of the
            names of its linear layers ("q_proj", "mlp.up_proj"), which then are their own matrix names.

    Raises:
        UserError: a wanted name matches no linear layer; the message lists the nearest that exist.
    """
    layout = LAYOUTS.get(getattr(getattr(model, "config", None), "model_type", ""), {})
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found: dict[str, str] = {}
    for want in wanted:
        pattern = re.compile(
            rf"(?:.*\.)?layer\.(\d+)\.{re.escape(layout[want])}" if want in layout else rf"(?:.*\.)?{re.escape(want)}"
        )
        hits = {name: match for name in linears if (match := pattern.fullmatch(name))}
        if not hits:
            raise UserError(_no_match(want, linears, layout))
        found |= {name: f"layer.{match[1]}.{want}" if want in layout else name for name, match in hits.items()}
    return {name: found[name] for name in linears if name in found}


def _no_match(want: str, linears: Iterable[str], layout: dict[str, str]) -> str:
    suffixes = sorted({re.sub(r"^.*\.\d+\.", "", name) for name in linears})
    near = difflib.get_close_matches(want, [*layout, *suffixes], n=4, cutoff=0.3) or suffixes[:8]
    allowed = f"one of {', '.join(layout)}, or " if layout else ""
    return (
        f"method.targets: {want!r} matches no linear layer of this model. "
        f"Allowed: {allowed}the end of a linear layer's name. Nearest: {', '.join(near) or 'there is no linear layer'}"
    )


def head_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the named parameters of pooler and classifier, which every method trains and which are counted apart.

    Args:
        model: a sequence classifier whose `config.model_type` is a key of HEADS.
    """
    prefixes = HEADS[model.config.model_type]  # type: ignore[union-attr, index]
    return [(name, p) for name, p in model.named_parameters() if name.startswith(tuple(f"{x}." for x in prefixes))]
