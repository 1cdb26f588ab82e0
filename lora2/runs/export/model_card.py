"""The model card of an exported run: README.md with the hub's metadata block, made from the record alone."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import ModelCardData

from lora2.config.schema import ModelConfig, RunConfig
from lora2.config.task import task_of
from lora2.models.weights import on_hub
from lora2.runs.caveats import CAVEATS, MARK, caveats_of, marked
from lora2.runs.export.formats import TRIED_PEFT
from lora2.runs.pretrained import TUNED_ON
from lora2.runs.record import RunRecord

Form = Literal["lora", "merged"]
METHODS = {  # name and paper
    "lora2": ("LoRA²", "https://arxiv.org/abs/2408.06854"),
    "adalora": ("AdaLoRA", "https://arxiv.org/abs/2303.10512"),
}


@dataclass(frozen=True)
class Exported:
    """Describe what was written.

    Attributes:
        form: a stock LoRA adapter or the whole model.
        which: the best or the last weights of the run.
        ranks: rank of the exported pair by module name, 0 where nothing is left.
        difference: largest difference of a logit, relative to the largest logit (formats.largest_difference).
    """

    form: Form
    which: Literal["best", "last"]
    ranks: dict[str, int]
    difference: float


def model_card(record: RunRecord, cfg: RunConfig, exported: Exported) -> str:
    """Return the whole README.md: metadata, warnings, then use, results, sizes, how it was made, limits.

    Args:
        record: of a run with status "ok".
        cfg: the settings of the run.
        exported: what the folder holds.
    """
    name, _ = METHODS[record.config.method]
    blocks = [
        f"---\n{_metadata(record, cfg, exported).to_yaml()}\n---",
        f"# {record.config.model} on {_task(cfg)} with {name} ({record.config.variant})",
        *_warnings(record, exported),
        _about(record, exported),
        "## Use\n```python\n" + "\n".join(_usage(cfg, exported)) + "\n```",
        "## Results on the development set\n" + _table(_results(record, exported)),
        "## Sizes\n" + _table(_sizes(record, exported)),
        "## Settings\n" + _table(_settings(record, cfg)),
        "## How it was made\n" + _table(_provenance(record, exported)),
        "## Limits\n" + "\n".join(f"- {limit}" for limit in _limits(record, cfg)),
    ]
    return "\n\n".join(blocks) + "\n"


def _metadata(record: RunRecord, cfg: RunConfig, exported: Exported) -> ModelCardData:
    return ModelCardData(
        base_model=cfg.model.hub_id if on_hub(cfg.model) else None,
        datasets=None if record.synthetic or cfg.data.source == "files" else "nyu-mll/glue",
        language="en",
        library_name="peft" if exported.form == "lora" else "transformers",
        pipeline_tag="text-classification",
        tags=["lora2", *_origin(record), *(["lora"] if exported.form == "lora" else [])],
    )


def _task(cfg: RunConfig) -> str:
    return f"own data ({cfg.task})" if cfg.data.source == "files" else f"GLUE {cfg.task.upper()}"


def _origin(record: RunRecord) -> list[str]:
    """Tags that say what the scores are of."""
    tags = [] if record.config.data == "files" else ["glue"]
    if record.synthetic:
        tags.append("synthetic-data")
    if record.model_random_init:
        tags.append("random-weights")
    return tags


def _warnings(record: RunRecord, exported: Exported) -> list[str]:
    found = []
    if record.synthetic:
        found.append(
            "> **Synthetic data.** Trained and scored on data that the project made; this is not a GLUE result."
        )
    if record.model_random_init:
        found.append("> **Random weights.** The backbone was never pretrained; this model knows nothing.")
    if exported.form == "lora" and not any(exported.ranks.values()):
        found.append(
            "> **No matrix kept a singular value.** What was learned is in the head, which is included; the one LoRA "
            "pair in the file is zero, because PEFT loads no adapter without one."
        )
    return found


def _about(record: RunRecord, exported: Exported) -> str:
    name, paper = METHODS[record.config.method]
    made = (
        "The update ΔW of every matrix is written as a LoRA pair of the least exact rank, head included (tried with "
        f"peft {', '.join(TRIED_PEFT)})"
        if exported.form == "lora"
        else "The update ΔW of every matrix is added to its weight, so this is a plain transformers model"
    )
    return (
        f"A [{name}]({paper}) adapter, exported by lora2-glue. {made}; no code of that project is "
        f"needed. On made-up sequences its float32 logits differ from the trained model's by at most "
        f"{exported.difference:.1e} of the largest logit."
    )


def _usage(cfg: RunConfig, exported: Exported) -> list[str]:
    lines = ["import torch", "from transformers import AutoModelForSequenceClassification, AutoTokenizer"]
    if exported.form == "merged":
        return [
            *lines,
            'model = AutoModelForSequenceClassification.from_pretrained("THIS_FOLDER", dtype=torch.float32)',
            'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")',
        ]
    labels = task_of(cfg).num_labels
    return [
        *lines,
        "from peft import PeftModel",
        f"source = {_source(cfg.model)}",
        "base = AutoModelForSequenceClassification.from_pretrained("
        f"**source, num_labels={labels}, dtype=torch.float32)",
        'model = PeftModel.from_pretrained(base, "THIS_FOLDER").eval()',
        "tokenizer = AutoTokenizer.from_pretrained(**source)",
    ]


def _source(model: ModelConfig) -> str:
    """Where the backbone is, as arguments of from_pretrained, in code."""
    if model.random_init:
        return 'dict(pretrained_model_name_or_path="THIS_FOLDER/base")'
    if model.path is not None:
        return 'dict(pretrained_model_name_or_path="BASE_FOLDER")  # the folder it was trained from'
    if model.hub_id is None:
        return f'dict(pretrained_model_name_or_path="BASE_FOLDER")  # model/ of the PyPI package {model.package}'
    revision = "" if model.revision is None else f', revision="{model.revision}"'
    return f'dict(pretrained_model_name_or_path="{model.hub_id}"{revision})'


def _results(record: RunRecord, exported: Exported) -> dict[str, Any]:
    metrics = record.metrics
    assert metrics is not None  # an ok run has them
    scores = metrics.best if exported.which == "best" else metrics.last
    steps = metrics.best_step if exported.which == "best" else record.steps
    caveats = caveats_of(record.model_dump(mode="json"))
    return {name: marked(f"{value:.4f}", caveats) for name, value in scores.items()} | {
        "weights": f"{exported.which}, after {steps} of {record.steps} steps",
        "chosen by": metrics.main if exported.which == "best" else "nothing: the end of training",
    }


def _sizes(record: RunRecord, exported: Exported) -> dict[str, Any]:
    counts = record.counts
    assert counts is not None  # an ok run has them
    ranks = Counter(exported.ranks.values())
    return {
        "backbone parameters, frozen": f"{counts.backbone:,}",
        "head parameters, trained whole": f"{counts.head:,}",
        f"{METHODS[record.config.method][0]} parameters, trained": f"{counts.adapter:,}",
        "of these still acting at the end": f"{counts.active_adapter:,}",
        "exported matrices by rank": ", ".join(f"rank {rank}: {n}" for rank, n in sorted(ranks.items())),
    }


def _settings(record: RunRecord, cfg: RunConfig) -> dict[str, Any]:
    rank, budget, recipe = cfg.rank, cfg.budget, cfg.recipe
    assert rank is not None  # both methods have one
    sizes = {"k": rank.k, "r": rank.r, "alpha": f"{rank.alpha:g}"}
    own = {name: size for name, size in sizes.items() if size is not None}
    return {
        ", ".join(own): ", ".join(map(str, own.values())),
        "mean rank aimed at": "no pruning" if budget is None else f"{budget.target_rank:g}",
        "recipe, seed": f"{recipe.name}, {cfg.seed}",
        "learning rate, batch, epochs": f"{recipe.lr:g}, {recipe.batch_size}, {recipe.epochs}",
        "precision, longest input": f"{recipe.precision}, {recipe.max_length} tokens",
        "data": record.config.data,
    }


def _provenance(record: RunRecord, exported: Exported) -> dict[str, Any]:
    origin = record.provenance
    packages = origin.get("packages", {})
    return {
        "run": f"`{record.run_id}` ({exported.which} weights)",
        "code": f"commit {origin.get('git_commit')}{' with uncommitted changes' if origin.get('dirty_diff') else ''}",
        "machine": f"{origin.get('device')}, Python {origin.get('python')}, {origin.get('date')}",
        "packages": ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers") if name in packages),
        "training data, SHA-256": record.hashes.get("data"),
        "frozen weights, SHA-256": record.hashes.get("frozen_weights"),
    }


def _limits(record: RunRecord, cfg: RunConfig) -> list[str]:
    chosen = "`best` is chosen on the same set" if cfg.selection == "dev" else "`best` on a part of the training data"
    limits = [
        f"Scores are on the development set, {chosen}; they say nothing about a hidden test set.",
        "One seed. Small GLUE tasks vary by several points between seeds.",
        "English only; the biases of the backbone and of the data are still in it.",
    ]
    limits += [TUNED_ON[cfg.model.name]] if cfg.model.name in TUNED_ON and not cfg.model.random_init else []
    limits += [f"{MARK} {kind}: {CAVEATS[kind]}." for kind in caveats_of(record.model_dump(mode="json"))]
    return limits + [f"Noted in the run: {note}" for note in record.notes]


def _table(rows: dict[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
