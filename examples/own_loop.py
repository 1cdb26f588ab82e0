"""LoRA² in your own training loop, with the paper's settings and phases of your own.

A tiny random BERT learns to tell whether a sequence holds the token 7."""

import torch
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from lora2 import LoRA2Config, RankAllocator, inject

STEPS = 60


def main() -> None:
    """Train, prune to a quarter of the singular values, print what is left of each matrix."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = BertForSequenceClassification(config)

    adapter = inject(model, LoRA2Config.paper(k=8))  # freezes everything else but the head
    allocator = RankAllocator(adapter, STEPS, target_rank=2, t_i=10, t_f=20, score="full")
    optimizer = torch.optim.AdamW(adapter.param_groups(lr=1e-2))
    for step in range(STEPS):
        tokens = torch.randint(20, (32, 8))
        loss = cross_entropy(model(tokens).logits, (tokens == 7).any(1).long())
        (loss + adapter.penalty(gamma=0.01, terms=frozenset({"uv", "UV"}))).backward()
        allocator.observe(step)  # importance, from the weights and the gradients taken at them
        optimizer.step()
        allocator.mask(step)  # keeps exactly allocator.schedule.at(step) singular values
        optimizer.zero_grad()
    allocator.assert_final_budget()

    print(f"loss {loss:.3f}, singular values left: {adapter.ranks()}")


if __name__ == "__main__":
    main()
