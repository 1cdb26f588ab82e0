"""Mistakes that only show once torch is there: weights and tokenizers of another model, damaged weights of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_inputs.case import BadInput
from bad_inputs.files import FOLDER
from bad_inputs.settings import TINY

EXPORT = "export lora bert-mixed-rte --results results --outputs outputs"
Weights = dict[str, Any]


def _encoder(**files: bytes) -> Callable[[Path], None]:
    """A whole two-layer BERT with a head, as transformers saves it, with some files replaced."""

    def prepare(folder: Path) -> None:
        from helpers.toys import encoder

        encoder("bert").save_pretrained(folder / "folder")
        for name, content in {"tokenizer.json": b"{}", **files}.items():
            (folder / "folder" / name).write_bytes(content)

    return prepare


def _other_shapes(folder: Path) -> None:
    _encoder()(folder)
    path = folder / "folder" / "config.json"
    path.write_text(path.read_text().replace('"vocab_size": 50', '"vocab_size": 60'))
    _word_tokenizer(folder)


def _fewer_tensors(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    _encoder()(folder)
    path = folder / "folder" / "model.safetensors"
    tensors = load_file(path)
    save_file({name: x for name, x in tensors.items() if ".layer.1." not in name}, path, metadata={"format": "pt"})
    _word_tokenizer(folder)


def _word_tokenizer(folder: Path) -> None:
    from glue.conftest import WORDS, make_tokenizer

    make_tokenizer(WORDS).save_pretrained(folder / "folder")


def _saved_run(edit: Callable[[Weights], Weights] | None = None, length: int | None = None) -> Callable[[Path], None]:
    """A made-up finished run whose weights are edited, or cut off after `length` bytes."""

    def prepare(folder: Path) -> None:
        from helpers.exporting import make_run
        from safetensors.torch import load_file, save_file

        home = make_run(folder, "bert", "mixed")
        if edit is not None:
            save_file(edit(load_file(home.weights)), home.weights)
        if length is not None:
            home.weights.write_bytes(home.weights.read_bytes()[:length])

    return prepare


def _other_backbone(folder: Path) -> None:
    from helpers.exporting import change, make_run

    change(make_run(folder, "bert", "mixed"), hashes={"frozen_weights": "0" * 64})


def _model(what: str, prepare: Callable[[Path], None], *says: str) -> BadInput:
    return BadInput(what, "model folder", FOLDER, says, prepare, needs_torch=True)


def _weights(what: str, prepare: Callable[[Path], None], *says: str, more: str = "") -> BadInput:
    return BadInput(what, "checkpoint", f"{EXPORT} {more}", says, prepare, needs_torch=True)


def _late(what: str, overrides: str, *says: str) -> BadInput:
    return BadInput(what, "config", f"train {TINY} {overrides}", says, needs_torch=True)


def _other_head(folder: Path) -> None:
    """A whole BERT that was trained on a task of three classes."""
    from helpers.toys import encoder

    model = encoder("bert")
    model.config.num_labels = 3
    type(model)(model.config).save_pretrained(folder / "folder")
    _word_tokenizer(folder)


def _damaged_export(folder: Path) -> None:
    """A run's export whose facts are cut off."""
    _saved_run()(folder)
    (folder / "export").mkdir()
    weights = folder / "outputs" / "bert-mixed-rte" / "best.safetensors"
    weights.rename(folder / "export" / "lora2_factors.safetensors")
    (folder / "export" / "lora2_export.json").write_text('{"run_id": "x"')


START = f"train {TINY}"


def _start(what: str, overrides: str, *says: str, prepare: Callable[[Path], None] | None = None) -> BadInput:
    return BadInput(what, "config", f"{START} {overrides}", says, prepare, needs_torch=prepare is not None)


AGAIN = "run it again with force=true"

SOURCES = (  # known before torch is imported
    _start(
        "a head of random weights is to be kept", "model.keep_head=true", "model.keep_head", "no trained head", "=false"
    ),
    _start(
        "starts from no run", "init_from=nothing", "init_from: got 'nothing'", "name a finished run", "init_from=RUN_ID"
    ),
    _start("full starts from a run", "method=full init_from=x", "init_from: got 'x'", "only lora and lora2", "=null"),
)

WEIGHTS = (
    BadInput(
        "a trained head of another size is to be kept",
        "model folder",
        f"{FOLDER} model.keep_head=true",
        ("model.keep_head: got true", "has a head of 3 outputs", "model.keep_head=false"),
        _other_head,
        needs_torch=True,
    ),
    _start(
        "starts from an adapter of another size",
        "init_from=bert-mixed-rte rank.k=3",
        "rank.k: got 3",
        "the two must agree",
        "rank.k=2",
        prepare=_saved_run(),
    ),
    _start(
        "starts from a damaged export",
        "init_from=export",
        "lora2_export.json cannot be read",
        "export the run again",
        "scripts/export.py",
        prepare=_damaged_export,
    ),
    _late(
        "fp16 without a GPU", "recipe.precision=fp16", "recipe.precision: fp16 needs a GPU", "use fp32 or bf16", "=bf16"
    ),
    _late("no room for text", "recipe.max_length=3", "recipe.max_length: got 3", "give more", "=128"),
    _late(
        "target of no value",
        "budget.target_rank=0.01",
        "budget.target_rank: 0 singular values in all",
        "keep from 1 to the",
        "raise budget.target_rank",
    ),
    _late(
        "architecture that transformers refuses",
        "model.architecture.num_hidden_layers=2 model.architecture.relative_attention=[]",
        "model.architecture",
        "relative_attention",
        "model=minilm",
    ),
    _model("tokenizer no JSON", _encoder(**{"tokenizer.json": b"nonsense"}), "model: cannot load", "tokenizer", "=DIR"),
    _model(
        "weights of another size",
        _other_shapes,
        "word_embeddings.weight is (50, 16) in the file",
        "wants (60, 16)",
        "=DIR",
    ),
    _model("weights of a smaller model", _fewer_tensors, "lacks", "encoder tensors", "model.path=DIR"),
    _weights("cut to nothing", _saved_run(length=0), "best.safetensors: damaged", "restore the whole file", AGAIN),
    _weights("cut short", _saved_run(length=2000), "best.safetensors: damaged", "restore the whole file", AGAIN),
    _weights(
        "not there",
        _saved_run(),
        "last.safetensors: no such file",
        "give the folder",
        "--outputs DIR",
        more="--which last",
    ),
    _weights(
        "a tensor too many",
        _saved_run(lambda w: w | {"lora2.more": w["classifier.bias"].clone()}),
        "lora2.more",
        "the names that this run trained",
        AGAIN,
    ),
    _weights(
        "a tensor too few",
        _saved_run(lambda w: {k: v for k, v in w.items() if k != "classifier.bias"}),
        "lacks classifier.bias",
        "the names that this run trained",
        AGAIN,
    ),
    _weights(
        "a tensor of another shape",
        _saved_run(lambda w: w | {"classifier.bias": w["classifier.bias"].repeat(2)}),
        "classifier.bias should be (2,)",
        "the file has (4,)",
        AGAIN,
    ),
    _weights(
        "a tensor of no numbers",
        _saved_run(lambda w: w | {"classifier.bias": w["classifier.bias"] * float("nan")}),
        "classifier.bias should be (2,)",
        "not finite",
        AGAIN,
    ),
    BadInput(
        "to verify, trained on other data",
        "checkpoint",
        EXPORT.replace("lora", "verify", 1),
        ("data: demo does not hold the data that it was trained on", "give that data", "--data-dir DIR"),
        _saved_run(),
        needs_torch=True,
    ),
    _weights("another backbone", _other_backbone, "hashes.frozen_weights differs", "restore that one", "train again"),
)
