"""The one evaluation forward: every example once, in the split's order, whatever the batches are."""

import numpy as np
import pytest
import torch
from helpers.toys import Mlp
from helpers.training import split

from lora2.glue.batches import eval_batches
from lora2.glue.collate import collate
from lora2.models.logits import compute_logits, compute_parts, in_order


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("max_length", [None, 16])
def test_logits_are_those_of_each_example_alone(batch_size, max_length):
    model, data = Mlp().eval(), split()
    logits = compute_logits(model, data, batch_size=batch_size, pad_id=0, max_length=max_length)
    alone = [collate(data, np.array([i]), pad_id=0) for i in range(len(data))]
    for batch in alone:
        batch.pop("labels")
    with torch.no_grad():
        expected = torch.cat([model(**batch).logits for batch in alone])
    assert logits.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-5, atol=1e-6)


def test_processes_together_compute_every_example():
    model, data = Mlp().eval(), split()
    batches = eval_batches(data.lengths, 1)
    parts = [compute_parts(model, data, batches[rank::3], pad_id=0, max_length=None) for rank in (2, 0, 1)]
    whole = compute_logits(model, data, batch_size=1, pad_id=0)
    np.testing.assert_array_equal(in_order([part for own in parts for part in own]), whole)


def test_logits_are_fetched_when_all_are_asked_for(monkeypatch):
    """On a GPU to fetch them is to wait for it."""
    model, data, asked = Mlp().eval(), split(), []
    model.register_forward_pre_hook(lambda *_: asked.append("forward"))
    fetch = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: (asked.append("fetch"), fetch(x))[1])
    compute_logits(model, data, batch_size=1, pad_id=0)
    batches = len(eval_batches(data.lengths, 1))
    assert batches > 2
    assert asked == ["forward"] * batches + ["fetch"] * batches
