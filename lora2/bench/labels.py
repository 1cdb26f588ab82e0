"""Names of the benchmark's peers; without torch, so that the report can read them."""

LABELS = {
    "ours": "LoRA² (ours)", "ours_plain": "… plain path", "ours_fused": "… fused path", "naive": "LoRA² as released",
    "peft_adalora": "AdaLoRA (PEFT)", "peft_lora": "LoRA r=8 (PEFT)", "bitfit": "BitFit", "full": "full fine-tuning",
    "head": "head only",
}  # fmt: skip
