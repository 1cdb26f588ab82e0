"""The matrices of an encoder layer that can carry an adapter, by the names that the paper uses."""

MATRICES = ("query", "key", "value", "attn_output", "ffn_w1", "ffn_w2")  # the paper's Figure 3, top to bottom
MATRIX_TITLES = {
    "query": "Query", "key": "Key", "value": "Value",
    "attn_output": "Attn.Output", "ffn_w1": "FF.W1", "ffn_w2": "FF.W2",
}  # fmt: skip
ATTENTION, FFN = MATRICES[:4], MATRICES[4:]
SUBSETS: dict[str, tuple[str, ...]] = {
    "all": MATRICES,
    "qk": ("query", "key"),
    "qv": ("query", "value"),
    "qkv": ("query", "key", "value"),
}


def matrices_of(targets: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return what `method.targets` asks for: a key of SUBSETS stands for its matrices, a list for itself."""
    return SUBSETS[targets] if isinstance(targets, str) else targets
