"""Which linear layers of a model carry an adapter.

The six matrices of an encoder layer are found by structure. Query, key and value go by the names that transformers'
encoders give them. The three linear layers that are left are, in their order, the attention's output and the two of
the feed-forward part, and their shapes must say so.
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from torch import nn

from lora2.common.errors import UserError
from lora2.core.matrices import MATRICES

PROJECTIONS = {  # the last part of the module's name
    "query": ("query", "query_proj", "q_proj", "q_lin", "q"),
    "key": ("key", "key_proj", "k_proj", "k_lin", "k"),
    "value": ("value", "value_proj", "v_proj", "v_lin", "v"),
}
POSITIONS = ("pos_key_proj", "pos_query_proj")  # DeBERTa's, of relative positions: never adapted
NUMBERED = re.compile(r"((?:.*\.)?\d+)\.(.+)")  # the innermost numbered module, and a name inside it
SHOWN = 8  # modules that a message lists


def find_targets(model: nn.Module, wanted: Sequence[str]) -> dict[str, str]:
    """Return the matrix name ("layer.0.query") of every linear layer to adapt, by module name, in the model's order.

    Args:
        model: a transformers model, or any module.
        wanted: names of MATRICES; or the last parts of the names of linear layers ("q_proj", "mlp.up_proj"), in which
            * stands for any characters ("encoder.*.q_proj"), and which then are their own matrix names.

    Raises:
        UserError: a wanted name matches no linear layer, or not one in each layer of the encoder; the message lists
            what there is.
    """
    layers = encoder_layers(model)
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found: dict[str, str] = {}
    for want in wanted:
        if want in MATRICES and layers:
            found |= _in_each_layer(model, layers, want)
        else:
            found |= _by_pattern(model, linears, want)
    return {name: found[name] for name in linears if name in found}


def encoder_layers(model: nn.Module) -> list[dict[str, str]]:
    """Return the module names of the matrices that are understood, by name of MATRICES, for each layer in order.

    A layer is the innermost numbered module around a query projection.

    >>> from transformers import DistilBertConfig, DistilBertModel
    >>> config = DistilBertConfig(vocab_size=9, dim=4, hidden_dim=8, n_layers=1, n_heads=2)
    >>> encoder_layers(DistilBertModel(config))[0]["ffn_w1"]
    'transformer.layer.0.ffn.lin1'
    """
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    hits = [NUMBERED.fullmatch(name) for name in linears if _last_part(name) in PROJECTIONS["query"]]
    prefixes = dict.fromkeys(hit[1] for hit in hits if hit)
    return [_matrices({name: x for name, x in linears.items() if name.startswith(f"{prefix}.")}) for prefix in prefixes]


def siblings(matrices: Mapping[str, str]) -> list[list[str]]:
    """Return the module names of query, key and value, as far as they are there, of each layer: they read one input.

    Args:
        matrices: as find_targets returns them. Layers that go by other names may belong to a cross-attention.
    """
    found: dict[tuple[str, str], list[str]] = {}  # by layer and parent module
    for name, matrix in matrices.items():
        layer, _, part = matrix.rpartition(".")
        if part in PROJECTIONS and matrix != name:
            found.setdefault((layer, name.rpartition(".")[0]), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def _matrices(linears: Mapping[str, nn.Linear]) -> dict[str, str]:
    """Name the matrices of one layer; one that there are several of, or that is not as expected, is left out."""
    found: dict[str, str] = {}
    for matrix, names in PROJECTIONS.items():
        hits = [name for name in linears if _last_part(name) in names]
        if len(hits) == 1:
            found[matrix] = hits[0]
    rest = [name for name in linears if name not in found.values() and _last_part(name) not in POSITIONS]
    if "query" in found and len(rest) == 3 and _fits(linears[found["query"]], *(linears[name] for name in rest)):
        found |= dict(zip(("attn_output", "ffn_w1", "ffn_w2"), rest, strict=True))
    return found


def _fits(query: nn.Linear, output: nn.Linear, first: nn.Linear, second: nn.Linear) -> bool:
    """Say whether the shapes are those of an attention's output and of a feed-forward part behind it."""
    hidden = query.in_features
    widths = {output.out_features, first.in_features, second.out_features}
    return widths == {hidden} and first.out_features == second.in_features


def _in_each_layer(model: nn.Module, layers: Sequence[Mapping[str, str]], want: str) -> dict[str, str]:
    found = {layer[want]: f"layer.{i}.{want}" for i, layer in enumerate(layers) if want in layer}
    if len(found) < len(layers):
        raise UserError(
            f"method.targets: {want!r} is not understood in {len(layers) - len(found)} of the {len(layers)} layers of "
            f"{_architecture(model)}, which hold {_shown(model)}; give the ends of linear layers' names, "
            f"* for any characters"
        )
    return found


def _by_pattern(model: nn.Module, linears: Sequence[str], want: str) -> dict[str, str]:
    pattern = re.compile(r"(?:.*\.)?" + re.escape(want).replace(r"\*", ".*"))
    found = {name: name for name in linears if pattern.fullmatch(name)}
    if not found:
        known = MATRICES if encoder_layers(model) else ()
        near = difflib.get_close_matches(want, [*known, *_inside_layers(linears)], n=4, cutoff=0.3)
        allowed = f"one of {', '.join(known)}, or " if known else ""
        raise UserError(
            f"method.targets: {want!r} matches no linear layer of {_architecture(model)}. Allowed: {allowed}the end of "
            f"a linear layer's name, * for any characters. Nearest: {', '.join(near) or _shown(model)}"
        )
    return found


def _shown(model: nn.Module) -> str:
    """List the matrices of a model, those of all layers once, with their kinds: fused or convolved ones show here."""
    kinds = {
        _inside(name): f"{_inside(name)} ({type(module).__name__} {tuple(module.weight.shape)})"
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
        and module.weight.dim() > 1
        and not isinstance(module, nn.Embedding)
    }
    return ", ".join([*kinds.values()][:SHOWN]) or "no linear layer"


def _inside_layers(names: Sequence[str]) -> list[str]:
    return sorted({_inside(name) for name in names})


def _inside(name: str) -> str:
    """A module's name inside its numbered layer."""
    hit = NUMBERED.fullmatch(name)
    return hit[2] if hit else name


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _architecture(model: nn.Module) -> str:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return f"{type(model).__name__} (model_type {kind})" if kind else "this model"
