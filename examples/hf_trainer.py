"""LoRA² in transformers' Trainer: the callback prunes, the Trainer subclass adds the regularisers."""

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from lora2 import LoRA2Config, RankAllocator, inject
from lora2.core.hf import LoRA2Callback, LoRA2Trainer


class HoldsSeven(Dataset[dict[str, torch.Tensor]]):
    """256 sequences of 8 tokens; the label says whether token 7 is among them."""

    def __init__(self) -> None:
        self.tokens = torch.randint(20, (256, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.tokens[index]
        return {"input_ids": row, "labels": (row == 7).any().long()}


def main() -> None:
    """Train, prune to a quarter of the singular values, print what is left of each matrix."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = BertForSequenceClassification(config)
    adapter = inject(model, LoRA2Config(k=4, r=8))

    with tempfile.TemporaryDirectory() as folder:
        trainer = LoRA2Trainer(
            adapter=adapter,
            gamma=0.01,
            model=model,
            args=TrainingArguments(
                folder,
                num_train_epochs=6,
                per_device_train_batch_size=32,
                learning_rate=1e-2,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=HoldsSeven(),
            callbacks=[LoRA2Callback(lambda steps: RankAllocator(adapter, steps, target_rank=2))],
        )
        loss = trainer.train().training_loss
    print(f"mean loss {loss:.3f}, singular values left: {adapter.ranks()}")


if __name__ == "__main__":
    main()
