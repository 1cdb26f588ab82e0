"""Small models for the tests: two-layer encoders of the four architectures, and an MLP that names itself like BERT."""

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from helpers.oracle import Matrix
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from lora2.core.adapter import Adapter
from lora2.core.inject import LoRA2Config, inject
from lora2.core.layers import LoRA2Linear

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
EXTRA: Mapping[str, dict[str, object]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "mpnet": {"pad_token_id": 1},
}
KINDS = tuple(EXTRA)


def encoder(kind: str, *, dropout: float = 0.0) -> PreTrainedModel:
    """A two-layer sequence classifier with random weights from seed 0."""
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = AutoConfig.for_model(kind, **SIZES, **EXTRA[kind], **rates)
    return AutoModelForSequenceClassification.from_config(config)


def tokens(rows: int = 3, width: int = 7) -> dict[str, Tensor]:
    """A batch with padding in its last row."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, SIZES["vocab_size"], (rows, width), generator=generator)
    mask = torch.ones(rows, width, dtype=torch.int64)
    mask[-1, width // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def adapted(kind: str = "bert", *, random_factors: bool = True, **config: object) -> tuple[PreTrainedModel, Adapter]:
    """An encoder in evaluation mode with LoRA²; `random_factors` gives its factors values far from their start."""
    model = encoder(kind)
    adapter = inject(model, LoRA2Config(**config), train_head=False)  # type: ignore[arg-type]
    if random_factors:
        randomise_factors(adapter)
    return model.eval(), adapter


@torch.no_grad()
def randomise_factors(adapter: Adapter, scale: float = 0.5) -> None:
    """Random factors, Λ included, so that ΔW is not zero."""
    generator = torch.Generator().manual_seed(2)
    for parameter in adapter.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def matrix(layer: LoRA2Linear) -> Matrix:
    """The factors of one layer for the oracle, as float64 copies."""
    return Matrix(*(factor.detach()[layer.index].double().clone() for factor in layer.stack.factors))


class Mlp(nn.Module):
    """query, key, value of two "layers" one after the other with tanh between, on the mean of fixed embeddings.

    Its names and its config are BERT's, so LoRA² finds targets and head in it as in BERT. The three shapes differ.
    """

    WIDTHS = (6, 6, 5, 6)
    base_model_prefix = "bert"

    def __init__(self, labels: int = 2, vocab: int = 30) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(model_type="bert", num_labels=labels)
        self.bert = nn.Module()
        self.bert.embeddings = nn.Embedding(vocab, self.WIDTHS[0])
        self.bert.encoder = nn.Module()
        self.bert.encoder.layer = nn.ModuleList([self._layer() for _ in range(2)])
        self.bert.pooler = nn.Linear(self.WIDTHS[-1], 4)
        self.classifier = nn.Linear(4, labels)

    def _layer(self) -> nn.Module:
        layer, (a, b, c, d) = nn.Module(), self.WIDTHS
        layer.attention = nn.Module()
        layer.attention.self = nn.ModuleDict(
            {"query": nn.Linear(a, b), "key": nn.Linear(b, c), "value": nn.Linear(c, d)}
        )
        return layer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        mask = attention_mask.unsqueeze(-1)
        h = (self.bert.embeddings(input_ids) * mask).sum(1) / mask.sum(1)  # (b, width)
        for layer in self.bert.encoder.layer:
            for name in ("query", "key", "value"):
                h = torch.tanh(layer.attention.self[name](h))
        return SimpleNamespace(logits=self.classifier(torch.tanh(self.bert.pooler(h))))
