"""Records of a study, made up: a few methods on two tasks over seeds, and the trials of a search."""

from __future__ import annotations

from typing import Any

from helpers.fake_records import TIMING, record

from lora2.core.matrices import MATRICES

SEEDS = (0, 1, 2)
ADAPTERS = {"full": 22_565_376, "lora2_k1": 42_336, "lora_r1": 41_472, "lora2_k8": 336_672, "lora_r8": 331_776}
SCORES = {  # accuracy in percent, by seed
    ("full", "mrpc"): (87.0, 87.5, 86.5),
    ("full", "rte"): (62.0, 63.0, 61.0),
    ("lora2_k1", "mrpc"): (76.0, 75.0, 74.0),
    ("lora2_k1", "rte"): (54.0, 53.0, 55.0),
    ("lora_r1", "mrpc"): (79.0, 78.0, 79.5),
    ("lora_r1", "rte"): (53.0, 52.7, 54.0),
    ("lora2_k8", "mrpc"): (82.0, 83.0, 82.4),
    ("lora2_k8", "rte"): (58.0, 57.0, 58.6),
    ("lora_r8", "mrpc"): (80.0, 80.5, 79.5),
    ("lora_r8", "rte"): (55.0, 54.0, 52.7),
}
RATES = {0.0001: 74.0, 0.0005: 80.5, 0.001: 81.0, 0.004: 66.0}  # held-out accuracy of LoRA² k=8 on MRPC, last
MONITOR = [  # all matrices of two layers lose singular values at the same pace
    {"step": step, **{f"rank/layer.{layer}.{matrix}": kept for layer in (0, 1) for matrix in MATRICES}}
    for step, kept in ((10.0, 8.0), (20.0, 6.0), (30.0, 4.0))
]


def study_run(variant: str, task: str, seed: int, score: float, **changes: Any) -> dict[str, Any]:
    """A run of the comparison at one shared rate."""
    method = variant.split("_")[0]
    size = ADAPTERS.get(variant, 1000)
    standard = {
        "variant": variant,
        "method": method,
        "task": task,
        "seed": seed,
        "recipe": "short3",
        "experiment": "study_minilm",
        "setting_id": f"{variant}{task}",
        "best": {"accuracy": score / 100, "f1": 0.8},
        "counts": {"adapter": size, "active_adapter": size, "head": 50, "backbone": 99},
        "resolved": {
            "recipe": {"lr": 5e-5 if method == "full" else 1e-3},
            "rank": {"r": 8, "alpha": 16},
            "method": {"lam_lr_scale": 20},
        },
        "history": {"monitor": MONITOR} if method == "lora2" else {},
        "provenance": {"git_commit": "0123456789", "device": "a test's"},
    }
    return record(**{**standard, **changes})


def shared(collapsed: tuple[tuple[str, str, int], ...] = (("lora_r8", "rte", 2),)) -> list[dict[str, Any]]:
    """The first comparison; of `collapsed`, (variant, task, seed), the predictions are constant."""
    return [
        study_run(variant, task, seed, scores[seed], constant=["best"] if (variant, task, seed) in collapsed else [])
        for (variant, task), scores in SCORES.items()
        for seed in SEEDS
    ]


def tuned() -> list[dict[str, Any]]:
    """The second comparison: LoRA r=8 with its own rate is better by three points than at the shared one."""
    runs = []
    for variant, gain in (("lora2_k8", 0.0), ("lora_r8", 3.0)):
        for task in ("mrpc", "rte"):
            for seed, score in zip((10, 11, 12), SCORES[variant, task], strict=True):
                changes = {"recipe": "tuned", "experiment": "study_minilm", "setting_id": f"tuned{variant}{task}"}
                runs.append(study_run(variant, task, seed, score + gain, **changes))
    return runs


def trials() -> list[dict[str, Any]]:
    """The search of LoRA² k=8 on MRPC: four rates, two seeds; the highest collapses once."""
    runs = []
    for rate, score in RATES.items():
        for seed in (100, 101):
            changes = {
                "recipe": "trial",
                "experiment": "study_minilm",
                "setting_id": f"trial{rate}",
                "constant": ["best"] if (rate, seed) == (0.004, 101) else [],
                "resolved": {"selection": "heldout", "recipe": {"lr": rate}},
                "history": {"eval": [{"step": 1.0, "selection": 0.99}, {"step": 2.0, "selection": score / 100}]},
            }
            runs.append(study_run("lora2_k8", "mrpc", seed, 99.0, **changes))
    return [*runs, diverged()]


def diverged() -> dict[str, Any]:
    """A trial at a fifth rate, whose loss was not finite."""
    resolved = {"selection": "heldout", "recipe": {"lr": 0.01}}
    changes = {"recipe": "trial", "experiment": "study_minilm", "setting_id": "trial0.01", "resolved": resolved}
    error = "FloatingPointError: the loss is not finite at step 3"
    return study_run("lora2_k8", "mrpc", 100, 0.0, status="failed", error=error, metrics=None, history={}, **changes)


def timed() -> list[dict[str, Any]]:
    """Steps timed side by side on both tasks, of two methods."""
    return [
        study_run(variant, task, 0, 0.0, status="timed", metrics=None, timing={**TIMING, "seconds_per_step": seconds},
                  recipe="authors", experiment="table2")
        for variant, seconds in (("lora2_k8", 0.9), ("lora_r8", 1.0))
        for task in ("mrpc", "rte")
    ]  # fmt: skip
