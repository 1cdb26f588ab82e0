"""LoRA² itself, a library: the mathematics, the layers, injection, budget, allocator. Imports common."""
