"""Settings that somebody typed and that change nothing: told, so that nobody believes they had an effect."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from lora2.config.compose import COMMAND_LINE
from lora2.config.overrides import parse
from lora2.config.schema import RunConfig
from lora2.config.tree import flatten

UNSMOOTHED = {"magnitude": ("budget.beta1", "budget.beta2"), "sensitivity": ("budget.beta2",)}  # by score
FILES = ("hub_id", "revision", "package", "path")  # where weights come from


def given_settings(words: Iterable[str], configs: Path) -> dict[str, str]:
    """List the settings of one run's command line, as origins by dotted path; group choices and nulls are none."""
    settings = [parse(word, configs) for word in words]
    return {
        setting.key: COMMAND_LINE
        for setting in settings
        if setting.kind != "delete" and setting.value is not None and not (configs / setting.key).is_dir()
    }


def unused_settings(cfg: RunConfig, given: Iterable[str], origins: Mapping[str, str]) -> list[str]:
    """Say of each given setting that does nothing why it does nothing.

    Args:
        cfg: the settings as they were resolved.
        given: dotted paths of the command line.
        origins: where each value of `cfg` comes from; another origin than the command line has replaced it.
    """
    reasons = without_effect(cfg)
    found = []
    for path in given:
        final = next((origins[name] for name in _upwards(path) if name in origins), None)
        replaced = None if final in (None, COMMAND_LINE) else final
        if (why := replaced or reasons.get(path)) is not None:
            found.append(f"{path}: given, but without effect here ({why})")
    return found


def without_effect(cfg: RunConfig) -> dict[str, str]:
    """Settings that are kept and not read, with the reason."""
    values = flatten(cfg.model_dump(mode="json"))
    reasons: dict[str, str] = {}
    if cfg.data.source != "local":
        reasons["data.dir"] = f"data={cfg.data.source} reads no folder"
    if cfg.model.random_init:
        reasons |= dict.fromkeys((f"model.{name}" for name in FILES), "model.random_init=true reads no weights")
    elif cfg.model.path is not None:
        reasons |= dict.fromkeys((f"model.{name}" for name in FILES[:3]), "the weights come from model.path")
    elif cfg.model.package is not None:
        reasons |= dict.fromkeys((f"model.{name}" for name in FILES[:2]), "the weights come from model.package")
    if not cfg.model.random_init:
        sizes = (f"model.architecture.{name}" for name in cfg.model.architecture)
        reasons |= dict.fromkeys(sizes, "the config.json of the weights says it")
    if cfg.method.name == "adalora":
        reasons["budget.score"] = "adalora has one score of its own"
    if cfg.tracker.name == "none":
        reasons["tracker.project"] = "tracker=none logs nowhere"
    if values.get("method.penalty.terms") == []:
        reasons |= dict.fromkeys(("method.penalty.weight", "method.penalty.form"), "method.penalty.terms is empty")
    elif values.get("method.penalty.weight") == 0:
        reasons |= dict.fromkeys(("method.penalty.form", "method.penalty.terms"), "method.penalty.weight is 0")
    if cfg.init_from is not None:
        reasons["method.init"] = "the factors start as those of init_from"
    if values.get("budget.score") in UNSMOOTHED:
        score = values["budget.score"]
        reasons |= dict.fromkeys(UNSMOOTHED[score], f"budget.score={score} has no such average")
    return reasons


def _upwards(path: str) -> list[str]:
    """A dotted path and its sections, the longest first: "rank.k", "rank"."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
