"""Name, kind and sizes of a model that no file of configs/model describes, from its own config.json."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora2.common.errors import UserError
from lora2.common.hub_snapshot import config_file

ALIASES: dict[str, tuple[str, ...]] = {  # a size, and what transformers' configurations call it
    "vocab_size": ("vocab_size",),
    "hidden_size": ("hidden_size", "dim", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "n_heads"),
    "intermediate_size": ("intermediate_size", "hidden_dim", "d_ff"),
    "max_position_embeddings": ("max_position_embeddings",),
}
RELATIVE = ("relative_attention", "position_buckets", "position_biased_input")  # what costs depend on besides


def described(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the section `model` that are null and that its files tell, by key.

    Args:
        model: the section, with hub_id or path.

    Raises:
        UserError: there is neither, or its config.json cannot be had.
    """
    path, hub_id = model.get("path"), model.get("hub_id")
    if not path and not hub_id:
        raise UserError(
            "model.hub_id, model.path: no value; model=hub needs one: model.hub_id=OWNER/NAME model.revision=COMMIT, "
            "or model.path=DIR"
        )
    found = _config(model)
    sizes = {size: next((found[x] for x in names if x in found), None) for size, names in ALIASES.items()}
    told = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(path or hub_id)).resolve().name).lstrip("._-"),
        "model_type": found.get("model_type"),
        "architecture": sizes | {key: found[key] for key in RELATIVE if key in found},
    }
    return {key: value for key, value in told.items() if model.get(key) is None}


def _config(model: Mapping[str, Any]) -> dict[str, Any]:
    path = model.get("path")
    try:
        file = Path(path) / "config.json" if path else config_file(str(model["hub_id"]), model.get("revision"))
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        source = f"model.path={path}" if path else f"model.hub_id={model['hub_id']}"
        reason = " ".join(str(error).split())
        raise UserError(
            f"model: config.json of {source} cannot be read ({reason}); give a model of transformers: "
            f"model.path=DIR, with config.json, model.safetensors and tokenizer.json in it"
        ) from None
    if not isinstance(found, dict):
        raise UserError(
            f"model: config.json of {path or model['hub_id']} is no object; set model.path to a model's folder"
        )
    return found
