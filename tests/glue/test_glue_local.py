"""The reader of the official files accepts every quirk, and answers every fault with where it is and how to mend it."""

import re
from pathlib import Path

import pytest

from lora2.common.errors import UserError
from lora2.glue import hub, local
from lora2.glue.data import load_raw
from lora2.glue.tasks import TASKS, get_task

MRPC_HEADER = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
COLA_ROWS = (("xx01", "1", "", "The cat sleeps."), ("xx01", "0", "*", "The cat sleep the."))


def test_cola_has_no_header_in_train_and_dev_but_one_in_test(write_tsv):
    write_tsv("CoLA/train.tsv", *COLA_ROWS)
    write_tsv("CoLA/dev.tsv", COLA_ROWS[0])
    folder = write_tsv("CoLA/test.tsv", ("index", "sentence"), ("0", "A dog barks."))
    raw = load_raw("cola", "local", folder, include_test=True)
    assert raw.splits["train"].texts == (["The cat sleeps.", "The cat sleep the."],)
    assert raw.splits["train"].labels == [1.0, 0.0]
    assert raw.splits["test"].texts == (["A dog barks."],)
    assert raw.splits["test"].labels is None
    assert (raw.source, raw.synthetic) == ("local", False)


def test_a_column_that_is_there_twice_is_refused(write_tsv):
    write_tsv("RTE/dev.tsv", ("index", "sentence1", "sentence2", "label"), ("0", "a", "b", "entailment"))
    folder = write_tsv(
        "RTE/train.tsv", ("label", "sentence1", "sentence2", "label"), ("entailment", "a", "b", "not_entailment")
    )
    with pytest.raises(UserError, match=r"train\.tsv, line 1: the column 'label' is there twice"):
        load_raw("rte", "local", folder)


def test_columns_of_cola_in_another_order_are_refused(write_tsv):
    """They have no names; the third holds a linguist's mark."""
    write_tsv("CoLA/dev.tsv", COLA_ROWS[0])
    folder = write_tsv("CoLA/train.tsv", *((source, label, text, mark) for source, label, mark, text in COLA_ROWS))
    with pytest.raises(UserError, match=r"line 1: column 3 is 'The cat sleeps\.', but must be empty or \* or \?"):
        load_raw("cola", "local", folder)
    write_tsv(
        "CoLA/train.tsv",
        *((source, label, mark, text) for mark in ("", "?*", " ") for source, label, _, text in COLA_ROWS),
    )
    assert len(load_raw("cola", "local", folder).splits["train"]) == 6


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_like_an_official_file_is_read_back(task, tmp_path):
    demo = load_raw(task, "demo", None)
    for name, split in demo.splits.items():
        local.write_split(TASKS[task], tmp_path, name, split)
    assert load_raw(task, "local", tmp_path).splits == demo.splits


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "\n", "\r\n\r\n", " \n"])
@pytest.mark.parametrize("bom", [True, False])
def test_byte_order_mark_line_ends_and_trailing_blank_lines(write_tsv, bom, newline, tail):
    for name in ("train", "dev"):
        rows = (MRPC_HEADER, ("1", "1", "2", "one", "uno"), ("0", "3", "4", "two", "drei"))
        folder = write_tsv(f"MRPC/{name}.tsv", *rows, bom=bom, newline=newline, tail=tail)
    split = load_raw("mrpc", "local", folder, include_test=False).splits["train"]
    assert split.texts == (["one", "two"], ["uno", "drei"])
    assert split.labels == [1.0, 0.0]


def test_unbalanced_quotes_neither_join_rows_nor_vanish(write_tsv):
    """Fails with any CSV reader that knows quotes: it would swallow everything between the two lone quotes."""
    rows = (
        ("1", "1", "2", '"He left', 'he said " no'),
        ("0", "3", "4", "plain", "plain too"),
        ("1", "5", "6", 'She came"', '""'),
    )
    for name in ("train", "dev"):
        folder = write_tsv(f"MRPC/{name}.tsv", MRPC_HEADER, *rows)
    split = load_raw("mrpc", "local", folder).splits["train"]
    assert split.texts == (['"He left', "plain", 'She came"'], ['he said " no', "plain too", '""'])


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r inside"])
def test_only_a_newline_ends_a_row(write_tsv, odd):
    folder = write_tsv("SST-2/train.tsv", ("sentence", "label"), (f"two{odd}halves", "1"))
    write_tsv("SST-2/dev.tsv", ("sentence", "label"), ("whole", "0"))
    assert load_raw("sst2", "local", folder).splits["train"].texts == ([f"two{odd}halves"],)


def test_columns_are_found_by_name_and_labels_follow_the_hubs_order(write_tsv):
    mnli = ("index", "genre", "sentence1", "sentence2", "label1", "gold_label")
    rows = [(str(i), "x", f"p{i}", f"h{i}", "neutral", gold) for i, gold in enumerate(TASKS["mnli"].label_names)]
    for name in ("train", "dev_matched", "dev_mismatched"):
        folder = write_tsv(f"MNLI/{name}.tsv", mnli, *rows)
    raw = load_raw("mnli", "local", folder)
    assert set(raw.splits) == {"train", "validation_matched", "validation_mismatched"}
    assert raw.splits["train"].texts == (["p0", "p1", "p2"], ["h0", "h1", "h2"])
    assert raw.splits["train"].labels == [0.0, 1.0, 2.0]
    for name in ("train", "dev"):
        rte = (
            ("index", "sentence1", "sentence2", "label"),
            ("0", "a", "b", "not_entailment"),
            ("1", "a", "b", "entailment"),
        )
        write_tsv(f"RTE/{name}.tsv", *rte)
        qqp = (("is_duplicate", "question2", "question1", "id"), ("1", "second", "first", "9"))
        write_tsv(f"QQP/{name}.tsv", *qqp)
        write_tsv(f"STS-B/{name}.tsv", ("score", "sentence2", "sentence1"), ("3.25", "b", "a"))
    assert load_raw("rte", "local", folder).splits["train"].labels == [1.0, 0.0]
    assert load_raw("qqp", "local", folder).splits["train"].texts == (["first"], ["second"])
    assert load_raw("stsb", "local", folder).splits["train"].labels == [3.25]


def test_row_counts_are_a_warning_that_names_both(write_tsv):
    write_tsv("CoLA/train.tsv", *COLA_ROWS)
    warnings = load_raw("cola", "local", write_tsv("CoLA/dev.tsv", *COLA_ROWS)).warnings
    assert len(warnings) == 4
    assert re.search(r"cola/train: 2 rows, officially 8551", warnings[0])
    assert re.search(r"cola/validation: 2 rows, officially 1043", warnings[1])
    assert re.search(r"cola/train: train\.tsv differs from the official file", warnings[2])
    assert re.search(r"cola/validation: dev\.tsv differs from the official file", warnings[3])


def test_equal_content_has_an_equal_fingerprint_and_any_change_another(write_tsv):
    write_tsv("CoLA/dev.tsv", *COLA_ROWS)
    folder = write_tsv("CoLA/train.tsv", *COLA_ROWS)
    first = load_raw("cola", "local", folder).fingerprint
    write_tsv("CoLA/train.tsv", *COLA_ROWS, newline="\r\n", bom=True)
    assert load_raw("cola", "local", folder).fingerprint == first
    assert len(first) == 64
    write_tsv("CoLA/train.tsv", COLA_ROWS[0], ("xx01", "1", "*", "The cat sleep the."))
    assert load_raw("cola", "local", folder).fingerprint != first


BAD = {
    "too few columns": (("0", "only text"), r"line 3: 2 columns, expected 4"),
    "too many columns": (("0", "a", "b", "entailment", "more"), r"line 3: 5 columns, expected 4"),
    "unknown label": (("0", "a", "b", "maybe"), r"line 3: label is 'maybe', but must be entailment or not_entailment"),
    "id for a named label": (("0", "a", "b", "0"), r"line 3: label is '0'"),
    "blank line inside": (("",), r"line 3: 1 columns, expected 4"),
}


@pytest.mark.parametrize(("row", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_named_by_file_and_line(write_tsv, row, message):
    header, good = ("index", "sentence1", "sentence2", "label"), ("0", "a", "b", "entailment")
    folder = write_tsv("RTE/train.tsv", header, good, row, good)
    with pytest.raises(UserError, match=message) as error:
        load_raw("rte", "local", folder)
    assert str(folder / "RTE" / "train.tsv") in str(error.value)
    assert "download" in str(error.value)


def test_a_bad_label_in_a_file_without_header_is_counted_from_one(write_tsv):
    folder = write_tsv("CoLA/train.tsv", COLA_ROWS[0], ("xx", "yes", "", "Hm."))
    with pytest.raises(UserError, match=r"line 2: label is 'yes', but must be 0 or 1"):
        load_raw("cola", "local", folder)


@pytest.mark.parametrize("score", ["5.1", "-0.5", "nan", "inf", "high", ""])
def test_scores_outside_0_to_5_are_refused(write_tsv, score):
    folder = write_tsv("STS-B/train.tsv", ("sentence1", "sentence2", "score"), ("a", "b", score))
    with pytest.raises(UserError, match="a number from 0 to 5"):
        load_raw("stsb", "local", folder)


def test_what_is_missing_is_named(write_tsv, tmp_path):
    with pytest.raises(UserError, match=r"no folder .*QNLI.*data=demo"):
        load_raw("qnli", "local", tmp_path)
    header = ("sentence1", "sentence2", "gold_label")
    write_tsv("MNLI/train.tsv", header, ("a", "b", "neutral"))
    folder = write_tsv("MNLI/dev_matched.tsv", header, ("a", "b", "neutral"))
    with pytest.raises(UserError, match=r"dev_mismatched\.tsv: no such file"):
        load_raw("mnli", "local", folder)
    write_tsv("RTE/train.tsv", ("index", "sentence1", "hypothesis", "label"), ("0", "a", "b", "entailment"))
    with pytest.raises(UserError, match=r"line 1: no column 'sentence2', found 'index', 'sentence1', 'hypothesis'"):
        load_raw("rte", "local", folder)
    with pytest.raises(UserError, match=r"data\.dir: not set"):
        load_raw("rte", "local", None)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"sentence\tlabel\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(tmp_path, content):
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "train.tsv").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.tsv: no rows"):
        load_raw("sst2", "local", tmp_path)


def test_unknown_names_list_the_allowed():
    with pytest.raises(UserError, match="cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte"):
        get_task("wnli")
    with pytest.raises(UserError, match="hub, local, demo"):
        load_raw("rte", "disk", None)


class TestHub:
    @pytest.fixture
    def snapshot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A fake copy of the repository, and a datasets cache of the test's own."""
        import datasets

        folder = tmp_path / "snapshot"
        (folder / "mrpc").mkdir(parents=True)
        config = "---\nconfigs:\n- config_name: mrpc\n  data_files:\n"
        for name in ("train", "validation", "test"):
            config += f"  - split: {name}\n    path: mrpc/{name}-*\n"
            rows = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0], "idx": [0, 1]}
            datasets.Dataset.from_dict(rows).to_parquet(folder / "mrpc" / f"{name}-00000-of-00001.parquet")
        (folder / "README.md").write_text(config + "---\n")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        return folder

    def test_a_cached_snapshot_is_read_without_asking_the_hub(self, snapshot, monkeypatch):
        monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(snapshot))
        monkeypatch.setattr(hub, "_probe", lambda _: pytest.fail("asked the hub"))
        raw = load_raw("mrpc", "hub", None, include_test=True)
        assert raw.splits["train"].texts == (["a", "b"], ["c", "d"])
        assert raw.splits["validation"].labels == [1.0, 0.0]
        assert raw.splits["test"].labels is None  # the hub has MRPC's; nobody shall choose by them
        assert "mrpc/train: 2 rows, officially 3668" in raw.warnings[0]

    def test_an_incomplete_copy_is_downloaded_again(self, snapshot, tmp_path, monkeypatch):
        (tmp_path / "partial" / "mrpc").mkdir(parents=True)
        calls = []

        def download(repository, **options):
            calls.append((repository, options["revision"], options["allow_patterns"], options["local_files_only"]))
            return str(tmp_path / "partial" if options["local_files_only"] else snapshot)

        monkeypatch.setattr(hub, "snapshot_download", download)
        monkeypatch.setattr(hub, "_probe", lambda _: None)
        assert len(load_raw("mrpc", "hub", None).splits["train"]) == 2
        assert calls == [(hub.REPOSITORY, hub.REVISION, ["mrpc/*", "README.md"], offline) for offline in (True, False)]

    def test_without_a_network_the_error_comes_fast_and_names_the_ways_out(self, monkeypatch):
        import threading
        import time

        def nothing_cached(*_, local_files_only, **__):
            assert local_files_only
            raise FileNotFoundError

        release = threading.Event()
        monkeypatch.setattr(hub, "snapshot_download", nothing_cached)
        monkeypatch.setattr(hub.HfApi, "dataset_info", lambda *_, **__: release.wait(30))  # a name look-up that hangs
        monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
        start = time.monotonic()
        with pytest.raises(UserError, match=r"out of reach \(no answer within 0.2 s\).*data=local.*data=demo"):
            load_raw("mrpc", "hub", None)
        assert time.monotonic() - start < 2
        release.set()

    def test_a_refused_request_and_a_broken_download_are_user_errors(self, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise OSError("no route")

        monkeypatch.setattr(hub, "snapshot_download", fails)
        monkeypatch.setattr(hub.HfApi, "dataset_info", fails)
        with pytest.raises(UserError, match=r"out of reach \(OSError: no route"):
            load_raw("mrpc", "hub", None)
        monkeypatch.setattr(hub.HfApi, "dataset_info", lambda *_, **__: None)
        with pytest.raises(UserError, match=r"download of nyu-mll/glue .* failed"):
            load_raw("mrpc", "hub", None)

    def test_a_copy_with_other_content_is_a_user_error(self, snapshot, monkeypatch):
        (snapshot / "mrpc" / "train-00000-of-00001.parquet").write_bytes(b"not parquet")
        monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(snapshot))
        with pytest.raises(UserError, match="Delete that folder"):
            load_raw("mrpc", "hub", None)
