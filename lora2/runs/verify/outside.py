"""Re-derive the dev scores of runs with stock libraries alone: peft, transformers, datasets, evaluate.

    python -I outside.py

The file is run by its path. Its process refuses to import lora2, so no number that it gives can come from there.
A line on standard input is a folder with job.json; a line on standard output says that result.json and, unless
something went wrong, logits.safetensors are in it now.
"""

import sys


class Refusal:
    """Refuse every import of lora2; the first finder that Python asks."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError for lora2 and its parts; leave every other module to the finders behind this one."""
        if name.partition(".")[0] == "lora2":
            raise ImportError(f"{name}: refused here, where stock libraries alone may compute")


sys.meta_path.insert(0, Refusal())

import csv  # noqa: E402
import json  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import datasets  # noqa: E402
import evaluate  # noqa: E402
import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding  # noqa: E402

BATCH = 64  # examples
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PACKAGES = ("torch", "transformers", "peft", "datasets", "evaluate")
Columns = tuple[list[list[str]], list[int] | list[float]]  # one or two lists of texts, and the labels


class Task(NamedTuple):
    """How a task is written: in the official TSV files, and where `nyu-mll/glue` on the hub calls its texts otherwise.

    Attributes:
        folder: of the official download.
        texts, label: columns of its files.
        classes: as the files write them, in the order of their ids; none for a regression.
        header: of files that have none.
        hub_texts: the hub's columns of texts, if they are others; its label is a number in the column "label".
    """

    folder: str
    texts: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    header: tuple[str, ...] = ()
    hub_texts: tuple[str, ...] = ()


NUMBERS, ENTAILMENT, PAIR = ("0", "1"), ("entailment", "not_entailment"), ("sentence1", "sentence2")
TASKS = {
    "cola": Task("CoLA", ("sentence",), "label", NUMBERS, header=("source", "label", "mark", "sentence")),
    "sst2": Task("SST-2", ("sentence",), "label", NUMBERS),
    "mrpc": Task("MRPC", ("#1 String", "#2 String"), "Quality", NUMBERS, hub_texts=PAIR),
    "qqp": Task("QQP", ("question1", "question2"), "is_duplicate", NUMBERS),
    "stsb": Task("STS-B", PAIR, "score", ()),
    "mnli": Task(
        "MNLI", PAIR, "gold_label", ("entailment", "neutral", "contradiction"), hub_texts=("premise", "hypothesis")
    ),
    "qnli": Task("QNLI", ("question", "sentence"), "label", ENTAILMENT),
    "rte": Task("RTE", PAIR, "label", ENTAILMENT),
}
DEV_FILES = {"validation": "dev.tsv"}  # by split
MNLI_FILES = {"validation_matched": "dev_matched.tsv", "validation_mismatched": "dev_mismatched.tsv"}


def rederive(folder: Path) -> None:
    """Do the job in a folder: load, read, predict, score, and write logits.safetensors and result.json beside it."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(job["tokenizer"])
    model = load(job["model"], job["adapter"], job["outputs"])
    metric = evaluate.load(job["metric"], job["task"])
    logits: dict[str, Tensor] = {}
    labels: dict[str, list[Any]] = {}
    scores: dict[str, float] = {}
    for split in MNLI_FILES if job["task"] == "mnli" else DEV_FILES:
        texts, labels[split] = read(job["task"], split, job["tsv"], job["hub"])
        logits[split] = compute(model, tokenizer, texts, job["max_length"])  # (n, c)
        predictions = logits[split].argmax(dim=1) if TASKS[job["task"]].classes else logits[split][:, 0]  # (n,)
        found = metric.compute(predictions=predictions.numpy(), references=labels[split])
        ending = "_mm" if split == "validation_mismatched" else ""
        scores |= {f"{name}{ending}": float(value) for name, value in found.items()}
    save_file(logits, folder / "logits.safetensors")
    answer(folder, scores=scores, labels=labels, packages={name: version(name) for name in PACKAGES})


def load(source: str, adapter: str | None, outputs: int) -> nn.Module:
    """Load a classifier with so many outputs, and the adapter on top of it, in float32 and evaluation mode."""
    model = AutoModelForSequenceClassification.from_pretrained(
        source,
        num_labels=outputs,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # a base may come with another task's head, which the adapter replaces
    )
    loaded: nn.Module = model if adapter is None else PeftModel.from_pretrained(model, adapter)
    return loaded.eval().to(DEVICE)


def read(task: str, split: str, tsv: str | None, hub: str | None) -> Columns:
    """Read a dev split with `datasets`, from the official files below `tsv` or from a snapshot of nyu-mll/glue."""
    known = TASKS[task]
    if tsv is None:
        table = datasets.load_dataset(hub, task, split=split)
        return [list(table[column]) for column in known.hub_texts or known.texts], list(table["label"])
    path = Path(tsv) / known.folder / {**DEV_FILES, **MNLI_FILES}[split]
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        first = file.readline()
    header = known.header or tuple(first.rstrip("\r\n").split("\t"))
    table = datasets.load_dataset(
        "csv",
        data_files={split: str(path)},
        split=split,
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
        encoding="utf-8-sig",
        lineterminator=None if first.endswith("\r\n") else "\n",  # other ends of lines occur inside texts
        keep_default_na=False,  # "None" and "NA" are texts
        header=None if known.header else 0,
        names=list(header),
        features=datasets.Features({column: datasets.Value("string") for column in header}),
    )
    labels = [known.classes.index(text) if known.classes else float(text) for text in table[known.label]]
    return [list(table[column]) for column in known.texts], labels


@torch.no_grad()
def compute(model: nn.Module, tokenizer: Any, texts: list[list[str]], max_length: int) -> Tensor:
    """Return the logits of n examples, (n, c), tokenised with the recipe's limit and padded batch by batch."""
    collate = DataCollatorWithPadding(tokenizer)
    parts = []
    for start in range(0, len(texts[0]), BATCH):
        rows = [column[start : start + BATCH] for column in texts]
        batch = collate(tokenizer(*rows, truncation="longest_first", max_length=max_length))
        parts.append(model(**{name: x.to(DEVICE) for name, x in batch.items()}).logits.cpu())
    return torch.cat(parts)


def answer(folder: Path, **result: object) -> None:
    """Write result.json."""
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def main() -> None:
    """Do one job after the other until the input ends; one that fails is told in its result."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not look like an answer
    for line in sys.stdin:
        folder = Path(line.rstrip("\n"))
        try:
            rederive(folder)
        except Exception as error:  # of whatever library; the verification has failed, and says so
            answer(folder, error=f"{type(error).__name__}: {error}")
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
