"""The record and the settings of a finished run, or the reason why there are none; known without torch."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from lora2.common.errors import UserError
from lora2.config.schema import RunConfig
from lora2.runs.reader import UnreadableRecordError, read_run
from lora2.runs.record import RunRecord, read_record, record_path


def finished_run(run: str, results: Path) -> tuple[RunRecord, RunConfig]:
    """Read a run's record.

    Args:
        run: a run id, or the path of a record.
        results: the folder that holds runs/.

    Raises:
        UserError: no such run, or not a finished one.
    """
    record = read_record(find_record(run, (results,)))
    if record.status == "timed":
        raise UserError(
            f"{record.run_id}: only the steps of this run were timed, nothing was trained; give a finished run: "
            f"train it, python scripts/train.py ..."
        )
    if record.status != "ok":
        raise UserError(
            f"{record.run_id}: the run did not end well ({record.status}: {record.error}); only finished runs will do: "
            f"run it again"
        )
    try:
        cfg = RunConfig.model_validate(record.config.resolved)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{record.run_id}: its settings are of another version ({where}: {first['msg']}); run it "
            f"again with this version, or check out the commit of its record"
        ) from None
    return record, cfg


def require_exportable(record: RunRecord) -> None:
    """Raise UserError for a run without factors on our stacks, which cannot be exported."""
    impl = (record.config.resolved.get("method") or {}).get("impl")
    if record.config.method != "lora2" and impl != "stacked":
        name = record.config.method + (f" with method.impl={impl}" if impl else "")
        raise UserError(
            f"{record.run_id}: its method is {name}; only method=lora2, and method=adalora with "
            f"method.impl=stacked, can be exported: choose another run"
        )


def find_record(run: str, places: Sequence[Path]) -> Path:
    """Find a run's record.

    Args:
        run: a run id, or the path of a record.
        places: results folders, each with runs/.

    Raises:
        UserError: there is none; names the nearest ones, those with weights first.
    """
    for path in (*(record_path(place, run) for place in places), Path(run)):
        if path.is_file():
            return path
    runs = [path for place in places for path in sorted((place / "runs").glob("*.json"))]
    known = sorted({path.stem for path in runs if _has_weights(path)} or {path.stem for path in runs})
    near = difflib.get_close_matches(run, known, n=3, cutoff=0.4) or known[:3]
    where = ", ".join(str(place / "runs") for place in places)
    raise UserError(
        f"{run}: no such run in {where}, and no such file. "
        + (f"Nearest: {', '.join(near)}" if near else "There are no runs yet; scripts/train.py makes them")
    )


def _has_weights(path: Path) -> bool:
    """Whether the weights of a record's run are on this machine."""
    try:
        resolved = read_run(path).resolved
    except UnreadableRecordError:
        return False
    return any((Path(str(resolved.get("output_dir"))) / path.stem).glob("*.safetensors"))
