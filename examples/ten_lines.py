"""LoRA² in ten lines: adapt a classifier, train it, prune it, and leave with an adapter that stock peft loads.

A tiny random BERT stands for yours, sequences that hold the token 7 or not for your data.
"""

import tempfile

import torch
from peft import PeftModel
from transformers import BertConfig, BertForSequenceClassification


def base_model() -> BertForSequenceClassification:
    """Return a model with the same random weights at every call."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))


model, folder = base_model(), tempfile.mkdtemp()
rows = torch.randint(20, (60, 32, 8))
batches = [{"input_ids": row, "labels": (row == 7).any(1).long()} for row in rows]

# The ten lines: `model` is any classifier of transformers, `batches` what it takes, labels included.
from lora2 import LoRA2Config, RankAllocator, inject  # noqa: E402

adapter = inject(model, LoRA2Config(k=8))  # freezes all but the adapter and the classification head
optimizer = torch.optim.AdamW(adapter.param_groups(lr=1e-3), weight_decay=0.0)  # Λ learns at 20 times this rate
allocator = RankAllocator(adapter, total_steps=len(batches), target_rank=4)
for step, batch in enumerate(batches):
    (model(**batch).loss + adapter.penalty(gamma=0.1)).backward()
    allocator.observe(step)  # how much the loss depends on each singular value
    optimizer.step()
    allocator.mask(step)  # sets the least important ones to zero
    optimizer.zero_grad()
adapter.save_peft(folder)  # PeftModel.from_pretrained(base, folder) loads it, without this library
# That is all.

adapter.print_trainable_parameters()
with torch.no_grad():
    ours, theirs = model.eval(), PeftModel.from_pretrained(base_model(), folder).eval()
    difference = float((ours(**batches[0]).logits - theirs(**batches[0]).logits).abs().max())
print(f"largest difference to the model that PEFT loads: {difference:.1e}")
