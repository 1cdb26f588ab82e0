"""LoRA² in your own training loop. A tiny random BERT learns to tell whether a sequence holds the token 7."""

import torch
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from lora2 import BudgetSchedule, LoRA2Config, RankAllocator, inject

STEPS = 60


def main() -> None:
    """Train, prune to a quarter of the singular values, print what is left of each matrix."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = BertForSequenceClassification(config)

    adapter = inject(model, LoRA2Config(k=4, r=8))  # freezes everything else
    model.classifier.requires_grad_()
    layers = list(adapter.layers.values())
    schedule = BudgetSchedule(STEPS, initial=8 * len(layers), target=2 * len(layers), t_i=10, t_f=20)
    allocator = RankAllocator(layers, schedule)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(STEPS):
        tokens = torch.randint(20, (32, 8))
        loss = cross_entropy(model(tokens).logits, (tokens == 7).any(1).long())
        (loss + 0.01 * sum(adapter.penalties(frozenset({"uv", "UV", "PQ"}), "squared").values())).backward()
        allocator.observe(step)  # importance, from the weights and the gradients taken at them
        optimizer.step()
        allocator.mask(step)  # keeps exactly schedule.at(step) singular values
        optimizer.zero_grad()
    allocator.assert_final_budget()

    print(f"loss {loss:.3f}, singular values left: {adapter.ranks()}")


if __name__ == "__main__":
    main()
