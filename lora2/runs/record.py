"""The record of one run: a JSON file that says what was run, on what, with what result. Documented by its types.

A record is written whole (lora2/common/files.py), once; a verification is added later.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from lora2.common.errors import UserError
from lora2.common.files import write_whole
from lora2.runs.caveats import Caveat
from lora2.runs.format import SCHEMA_VERSION, Checkpoint, Status


class ClosedModel(BaseModel):
    """A part of the schema: an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse what JSON has no number for, which would be written as null."""
    json.dumps(values, allow_nan=False)
    return values


AnyValues = Annotated[dict[str, Any], AfterValidator(_finite)]


class RecordConfig(ClosedModel):
    """What was run; `resolved` is the whole RunConfig."""

    model: str
    task: str
    method: str
    seed: int
    variant: str = Field(description="method with its size, the row of a table: lora2_k8")
    recipe: str
    data: str = Field(description="hub, local or demo; files: a task of the user's own")
    experiment: str
    setting_id: str = Field(description="hash of the settings without the seed: runs that share it may be averaged")
    resolved: AnyValues


class Metrics(ClosedModel):
    """GLUE metrics on the dev set, as fractions; `best` by the task's main metric, the first of equals."""

    best: dict[str, float]
    last: dict[str, float]
    best_step: int
    main: str


class Counts(ClosedModel):
    """Parameters: trained in the adapter, of these still acting after pruning, trained in the head, in the backbone."""

    adapter: int
    active_adapter: int
    head: int
    backbone: int


class Timing(ClosedModel):
    """Clocks of the training loop, evaluation apart."""

    wall_s: float = Field(
        description="of the process that ended the run, loading included; the others add up over resumes. Of a timed "
        "record: of the whole comparison, and the others without the rounds that are not counted"
    )
    train_s: float
    eval_s: float
    seconds_per_step: float = Field(description="mean; the median where the status is timed")
    tokens_per_s: float = Field(description="real tokens, padding not counted")
    shares: dict[str, float] = Field(
        description="share of train_s: forward, backward, penalty, method, optimizer, data; a captured "
        "step has gradients in place of the first three. On a GPU by the device's own events"
    )


class Verification(ClosedModel):
    """What stock libraries made of the run's weights, in a process without lora2 (`scripts/export.py verify`)."""

    passed: bool
    problems: list[str] = Field(default=[], description="why it failed; empty if it passed")
    which: Checkpoint
    form: Literal["lora", "whole"] = Field(description="what they loaded: a LoRA adapter, or a whole model")
    examples: int = Field(default=0, description="of all dev splits")
    differing: int = Field(
        default=0, description="predictions unlike those that lora2 makes in the run's precision; all of them ties"
    )
    ties: int = Field(default=0, description="examples whose two largest float32 logits are within `tie` of each other")
    tie: float = Field(
        default=0.0,
        description="in logits: twice the most that the run's precision moves the distance of two logits of an "
        "example; of a regression, in radians: twice the angle by which it turns the vector of all scores",
    )
    logit_difference: float | None = Field(
        default=None, description="largest difference to lora2's logits in float32, as a share of the largest logit"
    )
    metrics: dict[str, float] = Field(default={}, description="re-derived in float32, as fractions")
    recorded: dict[str, float] = Field(description="what the record said of that checkpoint")
    packages: dict[str, str] = Field(default={}, description="versions of what re-derived it")
    device: str = ""
    date: str


class RunRecord(ClosedModel):
    """One run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=250)  # a file's name, never a path
    status: Status = Field(
        description="timed: steps measured beside other methods (experiments/bench/side_by_side.py), nothing evaluated"
    )
    error: str | None = None
    config: RecordConfig
    synthetic: bool = Field(description="the data was made by the project")
    model_random_init: bool = Field(description="the backbone had random weights")
    notes: list[str] = Field(
        default=[], description="what the run changed or noticed: scaled schedules, odd row counts"
    )
    caveats: list[Caveat] = Field(
        default=[],
        description="why the numbers must not stand beside clean ones, by the kinds of runs/caveats.py; the reader "
        "adds those that follow from other fields, and those that only its neighbours show (other versions)",
    )
    constant: list[Checkpoint] = Field(
        default=[], description="evaluations, best and last, at which every example of a dev split got one prediction"
    )
    metrics: Metrics | None = None
    counts: Counts | None = None
    ranks: dict[str, int] = Field(default={}, description="kept singular values of each matrix at the end")
    masks: dict[str, str] = Field(
        default={}, description="which singular values of each matrix are kept at the end: 1 and 0 in their order"
    )
    padding_share: float | None = Field(default=None, description="share of training positions that held padding")
    steps: int = 0
    tokens: int = Field(default=0, description="real training tokens processed")
    padded_tokens: int = Field(
        default=0,
        validation_alias=AliasChoices("padded_tokens", "positions"),  # positions: its name in older records
        description="training tokens processed, padding included",
    )
    history: dict[str, list[dict[str, float]]] = Field(
        default={},
        description="by step. train: losses; eval: metrics; monitor: budget and rank of each matrix; of LoRA² "
        "also every regulariser unweighted, on or off, and the mean |cosine| of the rows of P and Q",
    )
    checks: dict[str, bool] = Field(default={}, description="what the run verified about itself; all true in an ok run")
    hashes: dict[str, str] = Field(default={}, description="SHA-256 of data and of the backbone's frozen weights")
    timing: Timing | None = None
    memory: dict[str, float] = Field(default={}, description="peak bytes")
    provenance: AnyValues = Field(
        default={},
        description="git commit, dirty-diff hash, package versions, device, date; whether steps were captured, "
        "in TF32, deterministic",
    )
    verified: Verification | None = Field(
        default=None, description="added to the record of a finished run; None where nobody has tried"
    )


def record_path(results_dir: str | Path, run_id: str) -> Path:
    """Return where the record of a run lies: results/runs/<run_id>.json."""
    return Path(results_dir) / "runs" / f"{run_id}.json"


def write_record(record: RunRecord, results_dir: str | Path) -> Path:
    """Write a record whole, and remove what processes that were killed while they wrote it have left.

    Returns:
        Where it lies.

    Raises:
        StorageError: the disk does not take it; an earlier record stays as it is.
    """
    path = record_path(results_dir, record.run_id)
    _write(path, record.model_dump(mode="json"))
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    return path


def note_verification(path: Path, verification: Verification) -> None:
    """Add a verification to a record, in place of an earlier one; nothing else of the file's content changes.

    A field that an older record lacks is not added: the reader concludes from its absence.

    Raises:
        StorageError: the disk does not take it; the record stays as it is.
    """
    content = json.loads(path.read_bytes())
    _write(path, content | {"verified": verification.model_dump(mode="json")})


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def read_record(path: Path) -> RunRecord:
    """Read a record and validate it against the schema.

    Raises:
        UserError: the file is not a record of this schema; names the file and the first fault.
    """
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); a run record belongs there: delete it to run again"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(
            f"{path}: not a run record (at {where}: {first['msg']}); it must follow schema {SCHEMA_VERSION} of "
            f"lora2/runs/record.py: delete it or run again with force=true"
        ) from None
