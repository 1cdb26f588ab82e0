"""Local files that are not as GLUE gave them: cut rows, other encodings, a spreadsheet's quotes, another order.

Each advice is followed here, and works.
"""

import csv
import hashlib
import io
import random
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lora2.common.errors import UserError
from lora2.glue import official
from lora2.glue.data import load_raw
from lora2.glue.local import OnBadRow
from lora2.glue.tasks import TASKS

QQP_HEADER = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
QQP_ROWS = tuple((str(i), str(2 * i), str(2 * i + 1), f"one {i}", f"two {i}", str(i % 2)) for i in range(4))
CUT = (("9", "18", "a question that"), ("goes on here", "another one", "1"))  # the old zip's, at a newline in a field
RTE_HEADER = ("index", "sentence1", "sentence2", "label")
SST2 = (("sentence", "label"), ("a café", "1"), ("naïve – “so”", "0"))


class TestBadRows:
    def test_the_message_names_cause_and_cure(self, write_tsv):
        folder = write_tsv("QQP/train.tsv", QQP_HEADER, *QQP_ROWS, *CUT)
        with pytest.raises(UserError) as error:
            load_raw("qqp", "local", folder)
        said = str(error.value)
        assert f"{folder}/QQP/train.tsv, line 6: 3 columns, expected 6" in said
        assert "2 rows of this file are bad" in said
        assert "old QQP.zip" in said
        assert "QQP-clean.zip" in said
        assert "data.on_bad_row=drop" in said

    def test_other_tasks_are_not_told_of_qqp(self, write_tsv):
        folder = write_tsv("RTE/train.tsv", RTE_HEADER, ("0", "cut"))
        with pytest.raises(UserError, match=r"2 columns, expected 4.*data\.on_bad_row=drop") as error:
            load_raw("rte", "local", folder)
        assert "QQP" not in str(error.value)

    def test_dropped_rows_are_counted_and_the_fingerprint_is_that_of_the_rest(self, write_tsv):
        write_tsv("QQP/dev.tsv", QQP_HEADER, *QQP_ROWS)
        folder = write_tsv("QQP/train.tsv", QQP_HEADER, *QQP_ROWS)
        clean = load_raw("qqp", "local", folder)
        assert load_raw("qqp", "local", folder, on_bad_row="drop") == clean
        no_label = (*QQP_ROWS[0][:-1], "")
        write_tsv("QQP/train.tsv", QQP_HEADER, *QQP_ROWS[:2], *CUT, *QQP_ROWS[2:], no_label)
        dropped = load_raw("qqp", "local", folder, on_bad_row="drop")
        assert dropped.splits == clean.splits
        assert dropped.fingerprint == clean.fingerprint
        (note,) = set(dropped.warnings) - set(clean.warnings)
        assert note.startswith("qqp/train: 3 of 7 rows of train.tsv were dropped")
        assert "first in line 4" in note

    def test_the_line_of_a_bad_label_is_that_of_the_file_though_rows_were_dropped(self, write_tsv):
        header, rows = RTE_HEADER, (("cut",), ("0", "a", "b", "entailment"), ("1", "a", "b", "maybe"))
        write_tsv("RTE/dev.tsv", header, rows[1])
        folder = write_tsv("RTE/train.tsv", header, rows[1], rows[2])
        with pytest.raises(UserError, match="line 3: label is 'maybe'"):
            load_raw("rte", "local", folder)
        write_tsv("RTE/train.tsv", header, *rows)
        (note,) = [x for x in load_raw("rte", "local", folder, on_bad_row="drop").warnings if "dropped" in x]
        assert "2 of 3 rows" in note
        assert "first in line 2" in note

    def test_notes_name_the_lines_of_the_file_though_rows_were_dropped(self, write_tsv):
        rows = (("cut",), ("0", "a", "b", "entailment"), ("1", '"a ""quoted"" word"', "b", "entailment"))
        write_tsv("RTE/dev.tsv", RTE_HEADER, rows[1])
        folder = write_tsv("RTE/train.tsv", RTE_HEADER, *rows)
        (note,) = [x for x in load_raw("rte", "local", folder, on_bad_row="drop").warnings if "spreadsheet" in x]
        assert "the first in line 4" in note

    def test_a_file_of_bad_rows_alone_is_an_error(self, write_tsv):
        folder = write_tsv("QQP/train.tsv", QQP_HEADER, *CUT)
        with pytest.raises(UserError, match=r"no rows are left, as all 2 are bad; the first: 3 columns"):
            load_raw("qqp", "local", folder, on_bad_row="drop")

    @pytest.mark.parametrize("on_bad_row", ["refuse", "drop"])
    def test_a_test_file_keeps_every_row(self, write_tsv, on_bad_row: OnBadRow):
        for name in ("train", "dev"):
            write_tsv(f"QQP/{name}.tsv", QQP_HEADER, *QQP_ROWS)
        folder = write_tsv("QQP/test.tsv", ("id", "question1", "question2"), ("0", "a", "b"), ("1", "a"))
        with pytest.raises(UserError, match=r"line 3: 2 columns.*A submission needs every row") as error:
            load_raw("qqp", "local", folder, include_test=True, on_bad_row=on_bad_row)
        assert "data.on_bad_row" not in str(error.value)


class TestEncodings:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A data folder whose name a shell splits, unless it is quoted."""
        folder = tmp_path / "my 'glue' $HOME"
        (folder / "SST-2").mkdir(parents=True)
        (folder / "SST-2" / "dev.tsv").write_text("sentence\tlabel\nfine\t1\n", encoding="utf-8")
        return folder

    @pytest.mark.parametrize(
        ("encoding", "named"),
        [
            ("latin-1", "ISO-8859-1"),
            ("cp1252", "WINDOWS-1252"),
            ("utf-16", "UTF-16"),
            ("utf-16-le", "UTF-16LE"),
            ("utf-16-be", "UTF-16BE"),
            ("utf-32", "UTF-32"),
        ],
    )
    def test_the_command_of_the_message_converts_the_file(self, folder: Path, encoding: str, named: str):
        rows = SST2[:2] if encoding == "latin-1" else SST2
        path = folder / "SST-2" / "train.tsv"
        path.write_bytes("".join("\t".join(row) + "\n" for row in rows).encode(encoding))
        with pytest.raises(UserError) as error:
            load_raw("sst2", "local", folder)
        assert f"looks like {named}." in str(error.value)
        command = str(error.value).partition("convert this one: ")[2]
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert load_raw("sst2", "local", folder).splits["train"].texts == ([text for text, _ in rows[1:]],)
        assert sorted(x.name for x in path.parent.iterdir()) == ["dev.tsv", "train.tsv"]

    def test_the_line_is_named(self, folder: Path):
        (folder / "SST-2" / "train.tsv").write_bytes("sentence\tlabel\nfine\t1\ncaf\xe9\t1\n".encode("latin-1"))
        with pytest.raises(UserError, match=r"line 3: byte 0xe9 is not UTF-8.*iconv"):
            load_raw("sst2", "local", folder)

    def test_stray_bytes_in_utf_8_are_bad_rows_as_a_conversion_would_garble_the_others(self, folder: Path):
        content = "sentence\tlabel\na café\t1\nnaïve\t0\n".encode() + b"caf\xe9\t1\n"
        (folder / "SST-2" / "train.tsv").write_bytes(content)
        with pytest.raises(UserError, match=r"line 4: byte 0xe9 is not UTF-8.*data\.on_bad_row=drop") as error:
            load_raw("sst2", "local", folder)
        assert "iconv" not in str(error.value)
        raw = load_raw("sst2", "local", folder, on_bad_row="drop")
        assert raw.splits["train"].texts == (["a café", "naïve"],)
        assert any("1 of 3 rows" in note for note in raw.warnings)


class TestOtherContent:
    ROWS = (
        ("1", "1", "2", 'He said " no " .', "plain"),
        ("0", "3", "4", '" Quoted from end to end "', '"'),
        ("1", "5", "6", "plain", '""'),
    )
    HEADER = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")

    def notes(self, write_tsv, *train: tuple[str, ...]) -> list[str]:
        write_tsv("MRPC/dev.tsv", self.HEADER, *self.ROWS)
        folder = write_tsv("MRPC/train.tsv", self.HEADER, *train)
        return [
            x for x in load_raw("mrpc", "local", folder).warnings if x.startswith("mrpc/train") and "rows," not in x
        ]

    def test_a_spreadsheets_quotes_are_noticed(self, write_tsv):
        saved = io.StringIO()
        csv.writer(saved, delimiter="\t", lineterminator="\n").writerows(self.ROWS)
        rows = [tuple(line.split("\t")) for line in saved.getvalue().splitlines()]
        assert rows[0][3] == '"He said "" no "" ."'
        (note,) = [x for x in self.notes(write_tsv, *rows) if "spreadsheet" in x]
        assert note.startswith(
            "mrpc/train: 3 rows have fields in quotes with doubled quotes inside, the first in line 2"
        )

    def test_official_quotes_are_none_of_a_spreadsheets(self, write_tsv):
        """Official rows begin and end with a quote, hold lone ones, or are two quotes."""
        assert not [x for x in self.notes(write_tsv, *self.ROWS) if "spreadsheet" in x]

    @pytest.fixture
    def known(self, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
        """Checksums of a small "official" RTE."""
        known = {name: hashlib.md5(rte(5), usedforsecurity=False).hexdigest() for name in ("train", "validation")}
        monkeypatch.setattr(official, "MD5", {"rte": known})
        return known

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_the_official_file_is_known_by_its_checksum(self, tmp_path, known, newline):
        assert not [x for x in rte_notes(tmp_path, rte(5).replace(b"\n", newline.encode())) if "differs" in x]

    def test_another_file_of_as_many_rows_differs(self, tmp_path, known):
        (note,) = [x for x in rte_notes(tmp_path, rte(5).replace(b"b3", b"b 3")) if "differs" in x]
        assert note.startswith("rte/train: train.tsv differs from the official file")

    def test_doubled_ids_of_train_are_told(self, tmp_path, known):
        (note,) = [x for x in rte_notes(tmp_path, rte(5).replace(b"\n4\t", b"\n2\t")) if "more than once" in x]
        assert note == "rte/train: 1 values of index are there more than once, the first is '2'."

    @pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
    def test_a_checksum_is_known_for_every_file(self, task):
        assert set(official.MD5[task.name]) == set(task.rows)
        assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in official.MD5[task.name].values())

    def test_no_checksum_is_there_twice(self):
        digests = [digest for files in official.MD5.values() for digest in files.values()]
        assert len(digests) == len(set(digests)) == 26


TEST_FILES = {
    "cola": ("CoLA/test.tsv", "index\tsentence"),
    "sst2": ("SST-2/test.tsv", "index\tsentence"),
    "mrpc": ("MRPC/test.tsv", "index\t#1 ID\t#2 ID\t#1 String\t#2 String"),
    "qqp": ("QQP/test.tsv", "id\tquestion1\tquestion2"),
    "stsb": ("STS-B/test.tsv", "index\tgenre\tsentence1\tsentence2"),
    "mnli": ("MNLI/test_mismatched.tsv", "index\tpromptID\tsentence1\tsentence2"),
    "qnli": ("QNLI/test.tsv", "index\tquestion\tsentence"),
    "rte": ("RTE/test.tsv", "index\tsentence1\tsentence2"),
}


@pytest.mark.parametrize("task", TASKS)
class TestIndex:
    def test_it_decides_the_order_of_a_test_file(self, tmp_path, task):
        ids = [str(i) for i in range(12)]
        random.Random(0).shuffle(ids)
        assert ids != sorted(ids, key=int)
        assert read_test(tmp_path, task, ids) == [f"text {i}" for i in range(12)]

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            ("0 1 3 4", r"2 missing"),
            ("0 1 2 2 3", r"2 there twice"),
            ("0 5 1 5 3", r"2 missing and 5 there twice"),
            ("1 2 3", r"0 missing"),
            ("0 8 9 10 11 12", r"1, 2, 3, \.\.\. missing \(5 missing, 0 doubled\)"),
            ("0 1 x", r"line 4: (index|id) is 'x', not a whole number"),
            ("0 1 -2", r"line 4: (index|id) is '-2'"),
            ("0 1 2.0", r"line 4: (index|id) is '2\.0'"),
            (f"0 1 {'9' * 5000}", r"line 4: (index|id) is '9+'"),
        ],
    )
    def test_missing_and_doubled_ids_are_named(self, tmp_path, task, ids, message):
        with pytest.raises(UserError, match=message) as error:
            read_test(tmp_path, task, ids.split())
        assert TEST_FILES[task][0] in str(error.value)

    def test_a_test_file_without_one_is_refused(self, tmp_path, task):
        with pytest.raises(UserError, match=r"no column '(index|id)'"):
            read_test(tmp_path, task, ["0"], header=re.sub("^(index|id)", "x", TEST_FILES[task][1]))


def read_test(folder: Path, task: str, ids: list[str], header: str | None = None) -> list[str]:
    """The first texts of a test file whose rows say which index they have, as they are read."""
    from lora2.glue.local import read_splits

    name, columns = TEST_FILES[task]
    header = columns if header is None else header
    rows = ["\t".join([i, *[f"text {i}"] * header.count("\t")]) for i in ids]
    (folder / name).parent.mkdir()
    (folder / name).write_text("\n".join([header, *rows]), encoding="utf-8")
    split = TASKS[task].test_splits[-1]
    return read_splits(TASKS[task], folder, (split,), "refuse")[0][split].texts[0]


def rte(rows: int) -> bytes:
    """The bytes of a small RTE file."""
    lines = ["\t".join(RTE_HEADER), *(f"{i}\ta{i}\tb{i}\tentailment" for i in range(rows))]
    return "".join(f"{line}\n" for line in lines).encode()


def rte_notes(folder: Path, train: bytes) -> Iterator[str]:
    """What is said of a train file beside the good dev file."""
    (folder / "RTE").mkdir()
    (folder / "RTE" / "train.tsv").write_bytes(train)
    (folder / "RTE" / "dev.tsv").write_bytes(rte(5))
    yield from load_raw("rte", "local", folder).warnings
