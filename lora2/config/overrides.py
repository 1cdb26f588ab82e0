"""Settings on a command line: one grammar, Hydra's own, for every script, for what they start and what they print.

Paths are the exception that users expect: what stands behind `data.dir=` is a path, whatever is in it. `literal_paths`
quotes it for the grammar. Hydra's parser is imported when a command line is read, not before.
"""

import functools
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora2.common.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

# They must exist; several of them make a sweep, if none has that name.
READ = ("data.dir", "data.train", "data.dev", "model.path", "init_from")
WRITTEN = ("results_dir", "output_dir")  # made when they are needed
Kind = Literal["change", "add", "set", "delete"]
KINDS: dict[str, Kind] = {"CHANGE": "change", "ADD": "add", "FORCE_ADD": "set", "DEL": "delete"}


@dataclass(frozen=True)
class Setting:
    """One word of a command line.

    Attributes:
        key: a group or a dotted path.
        kind: `key=...` changes, `+key=...` adds, `++key=...` does whichever is needed, `~key` deletes.
        words: the word of each job: one, or those that a sweep makes of it.
        value: as Python has it; None for a sweep.
        sweeps: whether it is a sweep, be it of one value or none.
    """

    key: str
    kind: Kind
    words: tuple[str, ...]
    value: Any
    sweeps: bool


def parse(word: str, configs: Path) -> Setting:
    """Read one word as Hydra does.

    Args:
        word: key=value, where the value of a path may be any text.
        configs: the folder of the groups, for glob().

    Raises:
        UserError: it is not in the grammar, or no sweep over values that can be listed.
    """
    return _parse(_literal(word), configs)


def literal_paths(words: Iterable[str]) -> list[str]:
    """Quote the paths of a command line, so that Hydra takes them as they are: spaces, commas, brackets and all.

    Left as they are: what is quoted or interpolated already, null, and a sweep over folders.
    """
    return [_literal(word) for word in words]


def quote(key: str, text: str) -> str:
    """Write key=text so that Hydra reads this very text."""
    word = f"{key}={text}"
    if "${" not in text and _read(word) == text:
        return word
    from hydra.core.override_parser.types import Quote, QuotedString

    literal = re.sub(r"(\\*)\$\{", lambda found: rf"{found[1] * 2}\${{", text)  # no interpolation
    return f"{key}={QuotedString(literal, Quote.single).with_quotes()}"


def shell_command(script: Path, words: Sequence[str]) -> str:
    """Write a command line that does the same when it is pasted into a shell, from this folder."""
    return shlex.join([_below_here(Path(sys.executable)), _below_here(script), *words])


def resolve_interpolations(tree: dict[str, Any]) -> dict[str, Any]:
    """Put values in the place of `${...}`, as Hydra does; environment variables are not to be had.

    Raises:
        UserError: one refers to nothing.
    """
    if "${" not in str(tree):
        return tree
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.clear_resolver("oc.env")  # so that no environment variable gets into a record
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise UserError(f"${{...}}: {first}; name a setting that scripts/train.py --cfg job shows") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


@functools.cache
def _parse(word: str, configs: Path) -> Setting:
    key, _, text = word.partition("=")
    try:
        override = _parser(configs).parse_overrides([word])[0]
        kind = KINDS[override.type.name]
        if override.is_sweep_override() and override.is_discrete_sweep():
            prefix = override.get_key_element()
            words = tuple(f"{prefix}={value}" for value in override.sweep_string_iterator())
            return Setting(override.key_or_group, kind, words, None, sweeps=True)
        value = None if kind == "delete" else override.value()
    except Exception as error:  # of Hydra's and the parser's many kinds
        if "=" not in word:
            raise UserError(
                f"{word}: write settings as group=option or key=value, for example task=rte seed=1"
            ) from error
        raise UserError(
            f"{key}: got {text!r}; write a number, a word, a list, or any text in quotes: {quote(key, text)}"
        ) from None
    chosen = override.key_or_group
    plain = "=" not in word if kind == "delete" else kind == "change" and isinstance(value, str)
    if (configs / chosen).is_dir() and (override.package is not None or not plain):
        names = ", ".join(_Groups(configs).get_group_options(chosen))
        raise UserError(f"{chosen}: got {word}; choose one of {names}: {chosen}=..., or leave it out")
    if override.is_sweep_override():
        raise UserError(f"{key}: got {text!r}; a sweep needs values that can be listed: {key}=choice(a,b)")
    return Setting(override.key_or_group, kind, (word,), value, sweeps=False)


def _literal(word: str) -> str:
    key, equals, text = word.partition("=")
    name = key.lstrip("+")
    if not equals or name not in READ + WRITTEN or text in ("", "null"):
        return word
    if os.path.exists(text):  # noqa: PTH110 (it takes a name that no file can have)
        return quote(key, text)
    override = _override(word)
    quoted = override is not None and type(override._value).__name__ == "QuotedString"
    sweeps = override is not None and override.is_sweep_override() and name in READ
    return word if quoted or sweeps or (override is not None and "${" in text) else quote(key, text)


def _override(word: str) -> "Override | None":
    """What Hydra reads; None where it reads nothing."""
    from hydra.errors import HydraException

    try:
        return _parser(None).parse_override(word)
    except HydraException:
        return None


def _read(word: str) -> Any:
    """The value that Hydra reads; None for what is no single value."""
    override = _override(word)
    return None if override is None or override.is_sweep_override() else override.value()


class _Groups:
    """What glob() asks for the options of a group."""

    def __init__(self, configs: Path) -> None:
        self._configs = configs

    def get_group_options(self, group_name: str, *_: object, **__: object) -> list[str]:
        return sorted(path.stem for path in (self._configs / group_name).glob("*.yaml"))


@functools.cache
def _parser(configs: Path | None) -> "OverridesParser":
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create(None if configs is None else _Groups(configs))  # type: ignore[arg-type]


def _below_here(path: Path) -> str:
    """A path as short as it can be from this folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
