"""Mistakes in data files, model folders and records: what lies there, and what the message must say."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from helpers.runs import compose_without_hydra
from safetensors.numpy import save_file

from bad_inputs.case import BadInput, Kind
from bad_inputs.settings import TINY
from lora2.config.identity import run_id, setting_id
from lora2.config.resolve import resolve
from lora2.glue.data import load_raw
from lora2.runs.record import RecordConfig, RunRecord, write_record

Prepare = Callable[[Path], None]
LOCAL = f"train {TINY} data=local data.dir=glue"
OWN = f"train {TINY} data=files data.train=train.csv data.dev=dev.csv"
FOLDER = f"train {TINY} model=minilm model.path=folder"
HEADER = b"index\tsentence1\tsentence2\tlabel\n"
QQP = b"id\tquestion1\tquestion2\tis_duplicate\n"
GOOD = b"0\tone\ttwo\tentailment\n"
DOWNLOAD = "ownload"
RUN_ID = "tiny-rte-lora2_k1-s0-0123"


def _bytes(**files: bytes) -> Prepare:
    """Files by path; two underscores are a slash, one before the end is the dot."""

    def prepare(folder: Path) -> None:
        for name, content in files.items():
            path = folder / ".".join(name.replace("__", "/").rsplit("_", 1))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return prepare


def _rte(train: bytes) -> Prepare:
    return _bytes(glue__RTE__train_tsv=train, glue__RTE__dev_tsv=HEADER + GOOD)


def _own(train: bytes, dev: bytes = b"text,label\na,yes\n") -> Prepare:
    return _bytes(train_csv=train, dev_csv=dev)


def _unreadable(folder: Path) -> None:
    """A file whose bytes cannot be had, whoever asks: root is not kept out by permissions."""
    _rte(HEADER + GOOD)(folder)
    (folder / "glue" / "RTE" / "train.tsv").unlink()
    (folder / "glue" / "RTE" / "train.tsv").symlink_to("/proc/self/mem")


def _folder(model_type: str | None = "bert", *, weights: bool = True, tokenizer: bool = True, **more: bytes) -> Prepare:
    """A model folder; without weights or tokenizer, or with `more` files that replace the good ones."""

    def prepare(folder: Path) -> None:
        (folder / "folder").mkdir()
        (folder / "folder" / "config.json").write_text(json.dumps({"model_type": model_type}))
        if weights:
            save_file({"x": np.zeros(8, np.float32)}, folder / "folder" / "model.safetensors")
        if tokenizer:
            (folder / "folder" / "tokenizer.json").write_text("{}")
        _bytes(**{f"folder__{name}": content for name, content in more.items()})(folder)

    return prepare


def _record(**changes: object) -> Prepare:
    """A record as a finished run leaves it, in results/runs/ under RUN_ID, with other fields."""

    def prepare(folder: Path) -> None:
        cfg = resolve(compose_without_hydra(TINY.split()))
        names = {"model": "tiny", "task": "rte", "method": "lora2", "seed": 0, "variant": cfg.variant}
        config = RecordConfig(
            **names,  # type: ignore[arg-type]
            recipe="short",
            data="demo",
            experiment="test",
            setting_id=setting_id(cfg, ""),
            resolved=cfg.model_dump(mode="json"),
        )
        record = RunRecord(run_id=RUN_ID, status="ok", config=config, synthetic=True, model_random_init=True)
        path = write_record(record, folder / "results")
        data = json.loads(path.read_text())
        whole = {**changes, "config": data["config"] | changes.get("config", {})}  # type: ignore[operator]
        path.write_text(json.dumps(data | whole))

    return prepare


def _record_in_the_way(content: bytes | None) -> Prepare:
    """A file, or for None a folder, where the record of a run of TINY belongs."""

    def prepare(folder: Path) -> None:
        name = run_id(resolve(compose_without_hydra(TINY.split())), load_raw("rte", "demo", None).fingerprint)
        path = folder / "outputs" / "results" / "runs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)

    return prepare


def _run_folder_is_a_file(folder: Path) -> None:
    name = run_id(resolve(compose_without_hydra(TINY.split())), load_raw("rte", "demo", None).fingerprint)
    (folder / "outputs" / name).touch()


def _submitting(test: bytes, **more: bytes) -> Prepare:
    """A record and a download with these rows in its test file."""

    def prepare(folder: Path) -> None:
        _record()(folder)
        _rte(HEADER + GOOD)(folder)
        _bytes(glue__RTE__test_tsv=b"index\tsentence1\tsentence2\n" + test, **more)(folder)

    return prepare


def _case(kind: Kind) -> Callable[..., BadInput]:
    def case(what: str, command: str, prepare: Prepare | None, *says: str) -> BadInput:
        return BadInput(what, kind, command, says, prepare)

    return case


_data, _model, _kept, _checkpoint = map(_case, ("data", "model folder", "record", "checkpoint"))
EXPORT = f"export lora {RUN_ID} --results results"
SUBMISSION = EXPORT.replace("lora", "submission", 1)
VERIFY = EXPORT.replace("lora", "verify", 1)

FILES = (
    _data(
        "no data folder given", f"train {TINY} data=local", None, "data.dir: no value", "the folder that", "data.dir="
    ),
    _data("no such folder", LOCAL, None, "data.dir: 'glue' is not a folder", "the folder that holds", "data=demo"),
    _data(
        "folder without the task",
        LOCAL,
        _bytes(glue__x_txt=b""),
        "data.dir: no folder glue/RTE",
        "official",
        "data=demo",
    ),
    _data(
        "no dev file",
        LOCAL,
        _bytes(glue__RTE__train_tsv=HEADER + GOOD),
        "RTE/dev.tsv: no such",
        "official",
        "data=demo",
    ),
    _data(
        "own data: no such file", OWN, None, "data.train: 'train.csv' is no file", "give a .csv, .tsv", "data.train="
    ),
    _data(
        "own data: no file given",
        f"train {TINY} data=files data.dev=x.csv",
        _bytes(x_csv=b"a"),
        "data.train: no value",
        "set",
        "data.train=",
    ),
    _data(
        "own data: a column that is not there",
        f"{OWN} data.text_pair=body",
        _own(b"text,label\na,yes\nb,no\n"),
        "data.text_pair: got 'body'",
        "has the columns text, label",
        "data.text_pair=COLUMN",
    ),
    _data(
        "own data: a label that train lacks",
        OWN,
        _own(b"text,label\na,yes\nb,no\n", b"text,label\na,maybe\n"),
        "data.dev: dev.csv: label is 'maybe' in row 1",
        "each must be a label of the train file (no, yes)",
        "mend or delete",
    ),
    _data(
        "own data: an empty text",
        OWN,
        _own(b"text,label\na,yes\n,no\n"),
        "data.train: train.csv: text is empty in 1 of 2 rows",
        "every row needs text",
        "fill or delete",
    ),
    _data(
        "own data: not what the ending says",
        OWN,
        _own(b'text,label\na,"yes\n'),
        "data.train: train.csv cannot be read",
        "save it in UTF-8, in the format of its ending",
        "data.train=FILE",
    ),
    _data(
        "own data: words as scores",
        f"{OWN} data.metric=pearson",
        _own(b"text,label\na,yes\nb,no\n"),
        "data.metric: got pearson",
        "give it numbers",
        "data.metric=accuracy",
    ),
    _data(
        "own data: a metric of two classes for three",
        f"{OWN} data.metric=f1",
        _own(b"text,label\na,1\nb,2\nc,3\n"),
        "data.metric: got f1, which needs two classes",
        "label has 3 classes",
        "data.metric=accuracy",
    ),
    _data(
        "own data: a name of GLUE's",
        f"{OWN} data.name=mrpc",
        _own(b"text,label\na,yes\nb,no\n"),
        "data.name: got 'mrpc'",
        "choose another name",
        "data.name=my-task",
    ),
    _model(
        "model=hub without a model",
        f"train {TINY} model=hub",
        None,
        "model.hub_id, model.path: no value",
        "needs one",
        "model.path=DIR",
    ),
    _model(
        "model=hub with a folder without a model",
        f"train {TINY} model=hub model.path=folder",
        _bytes(folder__x_txt=b""),
        "config.json of model.path=folder cannot be read",
        "give a model of transformers",
        "model.path=DIR",
    ),
    _data("unreadable file", LOCAL, _unreadable, "RTE/train.tsv: cannot be read", "that you may read it", DOWNLOAD),
    _data("empty file", LOCAL, _rte(b""), "RTE/train.tsv: no rows", "at least one", DOWNLOAD),
    _data("header alone", LOCAL, _rte(HEADER), "RTE/train.tsv: no rows", "at least one", DOWNLOAD),
    _data(
        "another encoding", LOCAL, _rte(HEADER + b"0\tcaf\xe9\tb\tentailment\n"), "train.tsv, line 2", "UTF-8", "iconv"
    ),
    _data("a column too many", LOCAL, _rte(HEADER + b"0\ta\tb\tc\td\n"), "train.tsv, line 2", "expected 4", DOWNLOAD),
    _data(
        "a row cut in two",
        LOCAL.replace("task=rte", "task=qqp"),
        _bytes(glue__QQP__train_tsv=QQP + b"1\ta\n" + 8 * b"2\ta\tb\t1\n", glue__QQP__dev_tsv=QQP + b"2\ta\tb\t1\n"),
        "QQP/train.tsv, line 2: 2 columns, expected 4",
        "QQP-clean.zip",
        "data.on_bad_row=drop",
    ),
    _data(
        "bad rows alone",
        f"{LOCAL} data.on_bad_row=drop",
        _rte(HEADER + b"0\ta\n"),
        "RTE/train.tsv: no rows are left",
        "An official GLUE file",
        DOWNLOAD,
    ),
    _data(
        "a stray byte",
        LOCAL,
        _rte(HEADER + "0\té\té\tentailment\n".encode() + b"1\tcaf\xe9\tb\tentailment\n"),
        "train.tsv, line 3: byte 0xe9",
        "the only encoding allowed",
        "data.on_bad_row=drop",
    ),
    _data("UTF-16", LOCAL, _rte(HEADER.decode().encode("utf-16")), "train.tsv, line 1", "UTF-8", "iconv -f UTF-16 "),
    _data(
        "rows dropped from demo data",
        f"train {TINY} data.on_bad_row=drop",
        None,
        "data.on_bad_row: got 'drop'; data=demo",
        "set data.on_bad_row=refuse",
        "data=local",
    ),
    _data(
        "no such label", LOCAL, _rte(HEADER + b"0\ta\tb\tmaybe\n"), "line 2: label is 'maybe'", "but must be", "Mend"
    ),
    _data("no such column", LOCAL, _rte(b"index\tlabel\n0\tx\n"), "train.tsv, line 1: no column", "found", "header"),
    _data(
        "score above 5",
        LOCAL.replace("task=rte", "task=stsb"),
        _bytes(**{"glue__STS-B__train_tsv": b"sentence1\tsentence2\tscore\na\tb\t7\n"}),
        "STS-B/train.tsv, line 2: score is '7'",
        "a number from 0 to 5",
        "Mend",
    ),
    _model("no such folder", FOLDER, None, "model.path: 'folder' is not a folder", "config.json", "model.safetensors"),
    _model("empty folder", FOLDER, _bytes(folder__x_txt=b""), "config.json", "No such file", "model.path=DIR"),
    _model("config no JSON", FOLDER, _folder(config_json=b"{"), "config.json", "Expecting", "model.path=DIR"),
    _model("another architecture", FOLDER, _folder("gpt2"), "model_type is 'gpt2'", "instead of 'bert'", "model.path="),
    _model(
        "a pickle only", FOLDER, _folder(weights=False, pytorch_model_bin=b"x"), "pytorch_model.bin", "never", "save"
    ),
    _model(
        "damaged weights",
        FOLDER,
        _folder(model_safetensors=b"x" * 99),
        "model.safetensors is damaged",
        "Give a folder",
        "=DIR",
    ),
    _model("no tokenizer", FOLDER, _folder(tokenizer=False), "no tokenizer", "one of tokenizer.json", "model.path="),
    _model("an adapter", FOLDER, _folder(adapter_config_json=b"{}"), "adapter_config.json", "not a whole", "merge it"),
    _kept(
        "damaged",
        f"train {TINY}",
        _record_in_the_way(b'{"run_id": '),
        "results/runs/tiny-rte",
        "schema 1",
        "force=true",
    ),
    _kept(
        "a folder", f"train {TINY}", _record_in_the_way(None), "cannot be read (Is a dir", "a run record", "delete it"
    ),
    _kept("another schema", EXPORT, _record(schema_version=2), f"{RUN_ID}.json", "schema 1", "force=true"),
    _kept(
        "unknown field", EXPORT, _record(more=1), f"{RUN_ID}.json: not a run record (at more", "schema 1", "delete it"
    ),
    _kept("not a number", EXPORT, _record(padding_share=float("nan")), "at padding_share", "schema 1", "force=true"),
    _kept("a path for a name", EXPORT, _record(run_id="../../x"), "at run_id", "schema 1", "force=true"),
    _kept(
        "of another method", EXPORT, _record(config={"method": "full"}), "method is full", "only method=lora2", "choose"
    ),
    _kept(
        "of a failed run",
        EXPORT,
        _record(status="failed", error="nan"),
        "failed: nan",
        "only finished runs",
        "run it again",
    ),
    _kept(
        "of another version",
        EXPORT,
        _record(config={"resolved": {}}),
        "another version",
        "with this version",
        "run it again",
    ),
    _kept("unknown run", EXPORT.replace("0123", "01234"), _record(), f"{RUN_ID}4: no such run", "Nearest", RUN_ID),
    _kept("no runs yet", EXPORT, None, f"{RUN_ID}: no such run", "There are no runs yet", "scripts/train.py"),
    _kept("submission of demo data", SUBMISSION, _record(), RUN_ID, "the official download", "--data-dir"),
    _kept(
        "submission with an id there twice",
        f"{SUBMISSION} --data-dir glue",
        _submitting(b"0\ta\tb\n0\ta\tb\n"),
        "RTE/test.tsv: index must hold every number from 0 once; 0 there twice",
        "once",
        DOWNLOAD,
    ),
    _kept(
        "submission of another size",
        f"{SUBMISSION} --data-dir glue",
        _submitting(b"0\ta\tb\n"),
        "1 for rte/test",
        "the server expects 3000",
        "--data-dir DIR",
    ),
    _kept(
        "submission over another run's",
        f"{SUBMISSION} --data-dir glue --output files",
        _submitting(b"0\ta\tb\n", files__RTE_tsv=b"x"),
        "--output: files/RTE.tsv is there already",
        "delete it",
        "another --output DIR",
    ),
    _kept("to verify, unknown", f"{VERIFY} --results none", None, f"{RUN_ID}: no such run", "none/runs", "There are"),
    _kept(
        "to verify, of a failed run",
        VERIFY,
        _record(status="oom", error="nan"),
        "did not end well (oom: nan)",
        "only finished runs will do",
        "run it again",
    ),
    _kept(
        "to verify, of a timed run", VERIFY, _record(status="timed"), "only the steps", "give a finished", "train it"
    ),
    _kept(
        "to verify, of a method that no stock library has",
        VERIFY,
        _record(config={"method": "houlsby"}),
        "no stock library loads its method, houlsby",
        "so its score cannot be re-derived",
        "choose a run of lora2, lora, adalora",
    ),
    _checkpoint(
        "to verify, not there",
        VERIFY,
        _record(),
        f"{RUN_ID}/best.safetensors: no such file",
        "give the folder",
        "--outputs DIR",
    ),
    _kept(
        "to verify, none",
        "export verify",
        None,
        "verify: got neither RUN nor --all",
        "give one of the two",
        "verify RUN",
    ),
    _kept(
        "to verify, all and one", f"{VERIFY} --all", None, "got RUN and --all", "give one of the two", "verify --all"
    ),
    _kept(
        "the paper's numbers damaged",
        "results tables --table table1 --results results",
        _bytes(results__paper__table1_yaml=b"title: ["),
        "results/paper/table1.yaml: cannot read",
        "a yaml mapping",
        "git checkout",
    ),
    _kept(
        "page without markers",
        "results diagnostics --output page.md --results .",
        _bytes(page_md=b"x"),
        "page.md",
        "markers",
        "add",
    ),
    _checkpoint(
        "a file for the run's folder", f"train {TINY}", _run_folder_is_a_file, "output_dir", "a folder", "move"
    ),
)
