"""LoRA² on a causal language model: adapt any linear layers by the ends of their names, then export a stock LoRA."""

import tempfile

import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from lora2 import LoRA2Config, RankAllocator, inject

STEPS = 40
TARGETS = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")


def tiny_llama() -> LlamaForCausalLM:
    """Return a model with the same random weights at every call."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    )


def main() -> None:
    """Learn to count in steps of three, prune, export, load with PEFT, compare."""
    model = tiny_llama()
    adapter = inject(model, LoRA2Config(k=4, r=4, targets=TARGETS))
    allocator = RankAllocator(adapter, STEPS, target_rank=1)
    optimizer = torch.optim.AdamW(adapter.param_groups(lr=5e-3))
    for step in range(STEPS):
        tokens = (torch.randint(16, (16, 1)) + 3 * torch.arange(10)) % 16  # (b, s)
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        allocator.observe(step)
        optimizer.step()
        allocator.mask(step)
        optimizer.zero_grad()
    allocator.assert_final_budget()

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        ranks = adapter.save_peft(folder)
        loaded = PeftModel.from_pretrained(tiny_llama(), folder)
        difference = float((loaded(tokens).logits - model(tokens).logits).abs().max())
    adapted = sum(rank > 0 for rank in ranks.values())
    print(f"loss {float(loss.detach()):.3f}, {adapted} of {len(ranks)} matrices still adapted")
    print(f"largest difference to the model that PEFT loads: {difference:.1e}")


if __name__ == "__main__":
    main()
