"""Made-up runs for the tests of the export: the files that training would leave, with any pattern of ranks."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from helpers import runs
from helpers.toys import EXTRA, SIZES
from safetensors.torch import save_file

from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.core.heads import head_parameters
from lora2.models.backbone import load_model
from lora2.models.checksum import weights_hash
from lora2.models.methods.lora2 import LoRA2
from lora2.runs.record import Counts, Metrics, RecordConfig, RunRecord, write_record

K, R = 2, 4
PATTERNS = {  # kept singular values of the matrices, in turn
    "mixed": (0, 1, 2, 3, 4),
    "full": (4,),
    "one": (0, 0, 0, 0, 1),
    "none": (0,),
}


@dataclass(frozen=True)
class Home:
    """Where a made-up run's files lie."""

    run_id: str
    results: Path
    outputs: Path

    @property
    def weights(self) -> Path:
        return self.outputs / self.run_id / "best.safetensors"


def settings(kind: str, task: str = "rte", path: Path | None = None) -> RunConfig:
    """LoRA² with k=2, r=4 on a two-layer encoder with random weights, or with those in the folder `path`."""
    cfg = resolve(runs.compose("model=tiny", f"task={task}", "data=demo", f"rank.k={K}", f"rank.r={R}", "recipe=demo"))
    model = cfg.model.model_copy(update={"model_type": kind, "architecture": {**SIZES, **EXTRA[kind]}, "name": kind})
    if path is not None:
        model = model.model_copy(update={"path": str(path), "random_init": False})
    return cfg.model_copy(update={"model": model})


@torch.no_grad()
def make_run(folder: Path, kind: str, pattern: str, task: str = "rte", path: Path | None = None) -> Home:
    """A run's files without its training: factors and head far from their start, Λ with zeros as `pattern` says."""
    cfg = settings(kind, task, path)
    torch.manual_seed(cfg.seed)
    model = load_model(cfg.model, 1 if task == "stsb" else 2, None)
    head = {name for name, _ in head_parameters(model)}
    frozen = weights_hash(model, [name for name, _ in model.named_parameters() if name not in head])
    assert cfg.rank is not None
    method = LoRA2(model, cfg.method, cfg.rank, None, 0)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(5)
    weights = {
        name: torch.randn(p.shape, generator=generator) * 0.3
        for group in method.groups
        for name, p in group.parameters.items()
    }
    for i, layer in enumerate(method.adapter.layers.values()):
        lam = next(weights[f"lora2.{n}"] for n, p in method.adapter.named_parameters() if p is layer.stack.lam)
        lam[layer.index, torch.randperm(R, generator=generator)[PATTERNS[pattern][i % len(PATTERNS[pattern])] :]] = 0
    home = Home(f"{kind}-{pattern}-{task}", folder / "results", folder / "outputs")
    home.weights.parent.mkdir(parents=True)
    save_file(weights, home.weights)
    write_record(record_of(home, cfg, frozen), home.results)
    return home


def record_of(home: Home, cfg: RunConfig, frozen: str) -> RunRecord:
    names = {"model": cfg.model.name, "task": cfg.task, "method": "lora2", "seed": cfg.seed, "variant": cfg.variant}
    config = RecordConfig(
        **names,  # type: ignore[arg-type]
        recipe=cfg.recipe.name,
        data="demo",
        experiment="test",
        setting_id="0",
        resolved=cfg.model_copy(update={"output_dir": str(home.outputs)}).model_dump(mode="json"),
    )
    return RunRecord(
        run_id=home.run_id,
        status="ok",
        config=config,
        synthetic=True,
        model_random_init=True,
        metrics=Metrics(best={"accuracy": 0.75}, last={"accuracy": 0.5}, best_step=3, main="accuracy"),
        counts=Counts(adapter=1000, active_adapter=500, head=34, backbone=9000),
        steps=8,
        hashes={"frozen_weights": frozen, "data": "d" * 64},
    )


def change(home: Home, **fields: object) -> None:
    """Write the record anew with other fields."""
    path = home.results / "runs" / f"{home.run_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
