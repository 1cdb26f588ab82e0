"""The record and the settings of a finished run, or the reason why there are none; known without torch."""

import difflib
from pathlib import Path

from pydantic import ValidationError

from lora2.common.errors import UserError
from lora2.config.schema import RunConfig
from lora2.runs.record import RunRecord, read_record, record_path


def finished_run(run: str, results: Path) -> tuple[RunRecord, RunConfig]:
    """Read a run's record.

    Args:
        run: a run id, or the path of a record.
        results: the folder that holds runs/.

    Raises:
        UserError: no such run, or not a finished one.
    """
    record = read_record(_record_file(run, results))
    if record.status == "timed":
        raise UserError(
            f"{record.run_id}: only the steps of this run were timed, nothing was trained; give a finished run: "
            f"train it, python scripts/train.py ..."
        )
    if record.status != "ok":
        raise UserError(
            f"{record.run_id}: the run did not end well ({record.status}: {record.error}); allowed are finished ones: "
            f"run it again"
        )
    try:
        cfg = RunConfig.model_validate(record.config.resolved)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{record.run_id}: its settings are of another version ({where}: {first['msg']}); allowed are this "
            f"version's: run it again, or check out the commit of its record"
        ) from None
    return record, cfg


def require_lora2(record: RunRecord) -> None:
    """Raise UserError for a run of another method, which cannot be exported."""
    if record.config.method != "lora2":
        raise UserError(
            f"{record.run_id}: its method is {record.config.method}; allowed are runs of method=lora2: choose another"
        )


def _record_file(run: str, results: Path) -> Path:
    for path in (record_path(results, run), Path(run)):
        if path.is_file():
            return path
    known = sorted(path.stem for path in (results / "runs").glob("*.json"))
    near = difflib.get_close_matches(run, known, n=3, cutoff=0.4) or known[:3]
    raise UserError(
        f"{run}: no such run in {results / 'runs'}, and no such file. "
        + (f"Nearest: {', '.join(near)}" if near else "There are no runs yet; scripts/train.py makes them")
    )
