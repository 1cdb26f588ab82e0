"""The modules of a sequence classifier that are its classification head. Needs no torch."""

HEADS: dict[str, tuple[str, ...]] = {
    "bert": ("bert.pooler", "classifier"),
    "roberta": ("classifier",),
    "deberta-v2": ("pooler", "classifier"),
    "mpnet": ("classifier",),
}
LAST_LAYER = {  # its weight is (labels, width)
    "bert": "classifier",
    "roberta": "classifier.out_proj",
    "deberta-v2": "classifier",
    "mpnet": "classifier.out_proj",
}
