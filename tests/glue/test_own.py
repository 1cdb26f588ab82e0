"""A task of one's own from every kind of file: what is read, how labels are told apart, which metrics score it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lora2.common.errors import UserError
from lora2.glue.metrics import score
from lora2.glue.own import FORMATS, OwnFiles, read_own

ROWS = {
    "question": ['Is "this" fine, or not?', "NA", "None", "more"],
    "passage": ["a", "b", "c\td", "007"],
    "label": ["yes", "no", "no", "yes"],
    "stars": [1, 2, 10, 2],
    "score": [0.5, 1.0, 2.25, 4.0],
}
WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".tsv": lambda table, path: path.write_text(
        "\n".join("\t".join(map(str, row)) for row in [table.columns, *table.replace("c\td", "c d").values]) + "\n"
    ),
    ".json": lambda table, path: table.to_json(path, orient="records"),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    ".parquet": lambda table, path: table.to_parquet(path),
}


def files(
    folder: Path, ending: str = ".csv", dev: dict[str, list[object]] | None = None, **changes: object
) -> OwnFiles:
    paths = {"train": folder / f"train{ending}", "dev": folder / f"dev{ending}"}
    for name, rows in (("train", ROWS), ("dev", dev or ROWS)):
        WRITERS[ending](pd.DataFrame(rows), paths[name])
    plain = OwnFiles(
        name="mine", **paths, text_columns=("question", "passage"), label_column="label", metric=None, labels=None
    )
    return replace(plain, **changes)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_kind_of_file_gives_the_same_texts_and_labels(ending: str, tmp_path: Path):
    raw = read_own(files(tmp_path, ending))
    questions, passages = raw.splits["train"].texts
    assert questions == ROWS["question"]
    assert passages[:2] == ["a", "b"]
    assert raw.spec.label_names == ("no", "yes")
    assert raw.splits["train"].labels == raw.splits["validation"].labels == [1.0, 0.0, 0.0, 1.0]
    assert (raw.spec.metrics, raw.spec.dev_splits, raw.source, raw.synthetic) == (
        ("accuracy",),
        ("validation",),
        "files",
        False,
    )
    assert raw.warnings == ()


def test_labels_decide_between_classes_and_scores_unless_the_metric_does(tmp_path: Path):
    stars = read_own(files(tmp_path, label_column="stars"))
    assert stars.spec.label_names == ("1", "2", "10")  # by number, not by letter
    assert stars.splits["train"].labels == [0.0, 1.0, 2.0, 1.0]
    rated = read_own(files(tmp_path, label_column="stars", metric="spearman"))
    assert rated.spec.is_regression
    assert (rated.spec.main_metric, rated.splits["train"].labels) == ("spearman", [1.0, 2.0, 10.0, 2.0])
    scored = read_own(files(tmp_path, label_column="score"))
    assert (scored.spec.metrics, scored.spec.num_labels) == (("pearson", "spearman"), 1)
    assert scored.splits["train"].labels == ROWS["score"]


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_a_text_file_is_read_as_it_is_written(ending: str, tmp_path: Path):
    """Whatever all the cells of a column look like in one file, and not in the other."""
    odd = {"question": ["001", "1.10", "true", "1e3"], "passage": ["NA", "null", "0", "-0"]}
    numeric = {"question": ["001", "002"], "passage": ["1.0", "2"]}
    flags = {"label": ["true", "false", "unknown", "true"], "stars": ["1.0", "0.0", "1.0", "0.0"]}
    given = files(tmp_path, ending, dev=DEV | numeric | {"label": ["true", "false"], "stars": ["1", "0"]})
    WRITERS[ending](pd.DataFrame(ROWS | odd | flags), given.train)
    raw = read_own(given)
    assert raw.splits["train"].texts == (odd["question"], odd["passage"])
    assert raw.splits["validation"].texts == (numeric["question"], numeric["passage"])
    assert raw.spec.label_names == ("false", "true", "unknown")
    assert read_own(replace(given, label_column="stars")).splits["train"].labels == [1.0, 0.0, 1.0, 0.0]


def test_f1_is_that_of_the_second_label(tmp_path: Path):
    import numpy as np

    plain = read_own(files(tmp_path, metric="f1")).spec
    turned = read_own(files(tmp_path, metric="f1", labels=("yes", "no"))).spec
    assert (plain.label_names, turned.label_names) == (("no", "yes"), ("yes", "no"))
    assert plain.metrics == ("f1", "accuracy")
    found = score(plain, np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]))
    assert found == {"f1": pytest.approx(0.8), "accuracy": 0.75}


def test_texts_labels_and_their_order_name_the_data(tmp_path: Path):
    one = read_own(files(tmp_path)).fingerprint
    assert read_own(files(tmp_path, ".parquet")).fingerprint == one  # the same data in another file
    others = [
        read_own(files(tmp_path, labels=("yes", "no"))),
        read_own(files(tmp_path, text_columns=("question",))),
        read_own(files(tmp_path, name="other")),
        read_own(files(tmp_path, dev=ROWS | {"label": ["no"] * 4})),
    ]
    assert len({one, *(raw.fingerprint for raw in others)}) == 5


DEV = {name: values[:2] for name, values in ROWS.items()}
MISTAKES: dict[str, tuple[dict[str, object], str]] = {
    "text": ({"text_columns": ("body",)}, r"data\.text: got 'body'; .* has the columns question, passage, label"),
    "pair": ({"text_columns": ("question", "body")}, r"data\.text_pair: got 'body'"),
    "label": ({"label_column": "class"}, r"data\.label: got 'class'"),
    "new label": ({"dev": DEV | {"label": ["yes", "maybe"]}}, r"data\.dev: .* label is 'maybe' in row 2 .*\(no, yes\)"),
    "empty text": ({"dev": DEV | {"passage": ["a", " "]}}, r"passage is empty in 1 of 2 rows, the first is row 2"),
    "no label": ({"dev": DEV | {"label": ["yes", None]}}, r"data\.dev: .* label is empty in 1 of 2 rows"),
    "words": ({"metric": "pearson"}, r"data\.metric: got pearson, but label of .* holds 'yes'"),
    "three": ({"metric": "f1", "label_column": "stars"}, r"data\.metric: got f1, which needs two classes; stars has 3"),
    "real dev": ({"dev": DEV | {"score": ["a", "b"]}, "label_column": "score"}, r"score is 'a' in row 1"),
    "ending": ({"train": Path("train.xlsx")}, r"data\.train: got 'train.xlsx'; its ending must be one of \.csv"),
}


@pytest.mark.parametrize(("changes", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_place(changes: dict[str, object], says: str, tmp_path: Path):
    with pytest.raises(UserError, match=says):
        read_own(files(tmp_path, **changes))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b'x,"y\n1'), ("a.json", b"{"), ("a.parquet", b"PAR1"), ("a.csv", b"label,question\n\xff\xfe,b\n")],
)
def test_a_file_that_cannot_be_read_says_why(name: str, content: bytes, tmp_path: Path, capfd):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.train: .* (cannot be read|has no rows|has the columns)"):
        read_own(files(tmp_path, train=path))
    assert capfd.readouterr().err == ""


def test_a_file_without_rows_and_one_class_alone_are_refused(tmp_path: Path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match=r"data\.train"):
        read_own(files(tmp_path, train=tmp_path / "empty.jsonl"))
    one = tmp_path / "one.json"
    one.write_text(json.dumps([{"question": "a", "passage": "b", "label": "yes"}]))
    with pytest.raises(UserError, match=r"has 1 classes \(yes\); it needs 2 to 1000"):
        read_own(files(tmp_path, train=one))
