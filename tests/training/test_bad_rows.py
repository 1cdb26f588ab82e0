"""A run on a local file with bad rows: refused with a cure, and the cure is told in the record."""

from pathlib import Path

import pytest
from helpers import runs

from lora2.common.errors import UserError
from lora2.config.identity import run_id
from lora2.config.resolve import resolve
from lora2.glue.data import load_raw
from lora2.runs.record import read_record
from lora2.training.run import run

HEADER = "index\tsentence1\tsentence2\tlabel\n"
ROWS = [f"{i}\tone {i}\ttwo {i}\t{('entailment', 'not_entailment')[i % 2]}\n" for i in range(40)]


def download(folder: Path, rows: list[str]) -> Path:
    (folder / "RTE").mkdir(parents=True)
    (folder / "RTE" / "train.tsv").write_text(HEADER + "".join(rows))
    (folder / "RTE" / "dev.tsv").write_text(HEADER + "".join(ROWS))
    return folder


def test_dropped_rows_are_in_the_record_and_the_run_is_that_of_the_clean_file(tmp_path):
    clean = download(tmp_path / "clean", ROWS)
    cut = download(tmp_path / "cut", [*ROWS[:5], "cut\n", "in two\tparts\n", *ROWS[5:]])
    given = (*runs.TINY[:1], *runs.TINY[2:], "data=local", "recipe.max_steps=2", f"data.dir='{cut}'")
    with pytest.raises(UserError, match=r"train\.tsv, line 7: 1 columns.*data\.on_bad_row=drop"):
        run(resolve(runs.compose(*given, *runs.folders(tmp_path))))
    cfg = resolve(runs.compose(*given, "data.on_bad_row=drop", *runs.folders(tmp_path)))
    assert run(cfg) == 0
    (path,) = (tmp_path / "results" / "runs").glob("*.json")
    refusing = cfg.model_copy(update={"data": cfg.data.model_copy(update={"on_bad_row": "refuse"})})
    assert path.stem == run_id(refusing, load_raw("rte", "local", clean).fingerprint)
    (note,) = [x for x in read_record(path).notes if "dropped" in x]
    assert note.startswith("rte/train: 2 of 42 rows of train.tsv were dropped")
    assert "rows dropped" in read_record(path).caveats
