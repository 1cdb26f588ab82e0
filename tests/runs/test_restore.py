"""A finished run of any method comes back from its record and its weights as it was evaluated."""

import numpy as np
import pytest
import torch
from helpers.runs import TINY, compose, folders

from lora2.common.errors import UserError
from lora2.config.resolve import resolve
from lora2.glue.data import load_raw
from lora2.glue.metrics import predict, score
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import tokenise
from lora2.models.logits import compute_logits
from lora2.runs.restore import open_run, tokenizer, trained_model
from lora2.training.run import run

STSB = (*TINY, "task=stsb", "recipe.lr=0.03")  # scores, not classes: every weight shows in the metric
METHODS = {
    "lora2": ["rank=k8"],
    "lora": ["method=lora", "rank.r=2"],
    "adalora": ["method=adalora", "rank.r=4", "budget.target_rank=2"],
    "adalora_peft": ["method=adalora", "method.impl=peft", "rank.r=4", "budget.target_rank=2"],
    "sora": ["method=sora", "rank.r=4", "method.sparse_lambda_2=0.1"],
    "houlsby": ["method=houlsby", "method.bottleneck=4"],
    "bitfit": ["method=bitfit"],
    "full": ["method=full", "recipe.lr=0.001"],
}


@pytest.mark.parametrize("overrides", METHODS.values(), ids=METHODS)
def test_the_saved_model_scores_what_the_record_says(overrides, tmp_path):
    assert run(resolve(compose(*STSB, *folders(tmp_path), *overrides))) == 0
    (record,) = (tmp_path / "results" / "runs").glob("*.json")
    saved = open_run(record.stem, "last", tmp_path / "results")
    task = TASKS["stsb"]
    words = tokenizer(saved)
    dev = tokenise(load_raw("stsb", "demo", None), words, 128, tmp_path / "tokens")[task.dev_splits[0]]
    model, method = trained_model(saved)
    with method.merged():
        outputs = compute_logits(model, dev, batch_size=8, pad_id=int(words.pad_token_id))
    scored = score(task, predict(task, outputs), dev.labels)
    assert scored == saved.record.metrics.last
    assert len(np.unique(outputs)) > 50  # a model that says one thing to all would score 0 whatever its weights


def test_another_backbone_is_refused(tmp_path, monkeypatch):
    assert run(resolve(compose(*TINY, *folders(tmp_path), "method=lora", "rank.r=2", "recipe.max_steps=1"))) == 0
    (record,) = (tmp_path / "results" / "runs").glob("*.json")
    saved = open_run(record.stem, "best", tmp_path / "results")
    monkeypatch.setattr("lora2.runs.restore.set_seed", lambda seed: torch.manual_seed(seed + 1))
    with pytest.raises(UserError, match="is not the one the run was trained on"):
        trained_model(saved)
