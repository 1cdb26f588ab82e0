"""The training step as CUDA graphs: captured once for each shape of a batch, then replayed."""
