"""Side-by-side cost of training methods: every peer on the same backbone, steps interleaved in one process."""
