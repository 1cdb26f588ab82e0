"""The matrices of an encoder layer that can carry an adapter, by the names that the paper uses."""

MATRICES = ("query", "key", "value", "attn_output", "ffn_w1", "ffn_w2")  # the paper's Figure 3, top to bottom
ATTENTION, FFN = MATRICES[:4], MATRICES[4:]
SUBSETS: dict[str, tuple[str, ...]] = {
    "all": MATRICES,
    "qk": ("query", "key"),
    "qv": ("query", "value"),
    "qkv": ("query", "key", "value"),
}
