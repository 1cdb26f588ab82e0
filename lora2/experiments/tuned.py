"""results/tuned/<model>.yaml: what a search has chosen for each task and row, with its trials as the source.

It has no clock and a fixed order, so that the same trials give the same file. Choices of trials that are not clean
(synthetic data, random weights, few steps) lie beside those trials, in outputs/results/tuned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lora2.common.errors import UserError
from lora2.common.files import write_whole
from lora2.runs.places import OWN, PUBLISHED

HEADER = """\
# Chosen by `make tune MODEL={model}`; not to be edited by hand.
# values: of the trial with the best mean score (a held-out tenth of train, after the last step) over the first two
# seeds; score: that mean, a fraction; trials: points of the search; records: the runs that it was chosen from.
"""


@dataclass(frozen=True)
class Choice:
    """What was chosen for one row on one task.

    Attributes:
        values: settings by dotted path.
        score: the mean held-out score, a fraction.
        trials: points of the search.
        records: names of its runs.
    """

    values: Mapping[str, Any]
    score: float
    trials: int
    records: tuple[str, ...]


@dataclass(frozen=True)
class Tuned:
    """What a search has chosen.

    Attributes:
        model: the backbone.
        experiment: whose rows and tasks were tuned.
        shared: settings that all trials had, as words of a command line.
        seeds: of the trials.
        choices: by task and row.
        clean: whether the trials may be published.
    """

    model: str
    experiment: str
    shared: tuple[str, ...]
    seeds: tuple[int, ...]
    choices: Mapping[tuple[str, str], Choice]
    clean: bool = True


def tuned_paths(results_dir: str, model: str) -> list[Path]:
    """List where a model's choices may be: beside its trials, and for the usual folder also in results/."""
    folders = [Path(results_dir), *([PUBLISHED] if Path(results_dir) == OWN else [])]
    return [folder / "tuned" / f"{model}.yaml" for folder in folders]


def write_tuned(tuned: Tuned, results_dir: str) -> Path:
    """Write what was chosen, among the published results if the trials are clean, and return where.

    Args:
        results_dir: of the trials.

    Raises:
        StorageError: the disk does not take it.
    """
    paths = tuned_paths(results_dir, tuned.model)
    path = paths[-1] if tuned.clean else paths[0]
    text = yaml.safe_dump(_as_plain(tuned), sort_keys=False, allow_unicode=True, width=10_000)
    write_whole(path, (HEADER.format(model=tuned.model) + text).encode())
    return path


def read_tuned(results_dir: str, model: str) -> Tuned:
    """Read what was chosen for a model.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    paths = tuned_paths(results_dir, model)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(
            f"{' or '.join(map(str, paths))}: not there, and the study needs the values of each method at its best; "
            f"let a search find them: make tune MODEL={model}"
        )
    try:
        return _from_plain(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{path}: cannot be read ({reason}); let a search write it again: make tune MODEL={model}"
        ) from None


def _as_plain(tuned: Tuned) -> dict[str, Any]:
    tasks: dict[str, dict[str, Any]] = {}
    for (task, row), choice in tuned.choices.items():
        tasks.setdefault(task, {})[row] = {
            "values": dict(choice.values),
            "score": choice.score,
            "trials": choice.trials,
            "records": list(choice.records),
        }
    return {
        "model": tuned.model,
        "experiment": tuned.experiment,
        "shared": list(tuned.shared),
        "seeds": list(tuned.seeds),
        "tasks": tasks,
    }


def _from_plain(data: Mapping[str, Any]) -> Tuned:
    return Tuned(
        model=data["model"],
        experiment=data["experiment"],
        shared=tuple(data["shared"]),
        seeds=tuple(data["seeds"]),
        choices={
            (task, row): Choice(
                values=dict(cell["values"]),
                score=float(cell["score"]),
                trials=int(cell["trials"]),
                records=tuple(cell["records"]),
            )
            for task, rows in data["tasks"].items()
            for row, cell in rows.items()
        },
    )
