"""Where records are: published ones in results/ (`make publish` takes them there), a user's own below outputs/."""

from collections.abc import Iterable
from pathlib import Path

from lora2.common.voice import say
from lora2.runs.reader import Run, mark_other_versions, read_folder

PUBLISHED = Path("results")
OWN = Path("outputs", "results")  # configs/train.yaml: results_dir
DEMO = Path("outputs", "demo")  # configs/experiment/demo.yaml


def record_paths(results_dir: str, run_id: str) -> list[Path]:
    """List where the record of a run may be: its own folder, and for the usual one also the published records."""
    folders = [Path(results_dir), *([PUBLISHED] if Path(results_dir) == OWN else [])]
    return [folder / "runs" / f"{run_id}.json" for folder in folders]


def read_places(places: Iterable[Path]) -> list[Run]:
    """Read the runs of several results folders, as load_places, and say the warnings."""
    runs, warnings = load_places(places)
    for warning in warnings:
        say(f"warning: {warning}")
    return runs


def load_places(places: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read the runs of several results folders; a run that is in two of them is taken from the first.

    Returns:
        The runs by name, and a warning for each file that is not a record.
    """
    found: dict[str, Run] = {}
    warnings: list[str] = []
    for place in places:
        runs, more = read_folder(place / "runs")
        found = {run.run_id: run for run in runs} | found
        warnings += more
    return mark_other_versions([found[name] for name in sorted(found)]), warnings
