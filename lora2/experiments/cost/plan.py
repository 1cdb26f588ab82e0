"""What a run costs before it starts: steps, tokens, arithmetic and memory, from its settings and lengths alone.

Arithmetic counts two operations for a multiply-add, and matrix products only. With N weights in the encoder's linear
layers, A in the adapter's, L layers of width d, and an example padded to s positions:

    forward    s (2N + 2A) + attention,  attention = 4 L d s²: scores, and the mean of the values
    backward   s (2N + 4A) + 2 attention: gradients of the inputs through the frozen layers, of inputs and weights in
               the adapter; full fine-tuning adds 2N s for the weights, and a frozen backbone (method=head) has none
    DeBERTa    adds to attention 4 L d s per relative position (c2p and p2c), and to each batch their projections,
               4 L d² per relative position

An A of LoRA² is k(d+o) for each matrix: through the fused path it costs no more than a LoRA of rank k, and merging the
few k × r factors is nothing beside it. Embeddings, norms, head, regulariser, importance and optimizer are left out; a
calibration (speed.py) holds them in its overhead per step. Evaluation is a forward pass, LoRA² merged for it.
"""

import math
from dataclasses import dataclass
from typing import Any

from lora2.config.methods import BottleneckMethodConfig, SubsetMethodConfig
from lora2.config.schema import RunConfig
from lora2.core.counts import Backbone, lora_parameters
from lora2.core.matrices import matrices_of
from lora2.experiments.cost.lengths import lengths
from lora2.glue.batches import EVAL_BATCH_FACTOR
from lora2.glue.heldout import train_size

PLACES = {"houlsby": 2, "pfeiffer": 1}  # bottlenecks of a layer
PROCESS_BYTES = 0.5e9  # Python, torch and its libraries


@dataclass(frozen=True)
class Work:
    """Arithmetic of training or of evaluation: batches, positions with padding, Σ s² over examples, operations."""

    batches: int
    padded_tokens: int
    squares: int
    flops: float


@dataclass(frozen=True)
class Cost:
    """What one run costs; `tokens` are the real ones of training, `memory` is the estimated peak in bytes."""

    steps: int
    tokens: int
    train: Work
    evaluation: Work
    memory: float
    lengths: str


def cost(cfg: RunConfig) -> Cost:
    """Work out the cost of a run; its seed does not matter."""
    known, recipe = lengths(cfg), cfg.recipe
    examples, share = _selected(cfg, len(known.train))
    steps = recipe.total_steps(examples)
    epochs = steps / math.ceil(examples / recipe.batch_size)
    width = recipe.padded_to
    epoch = known.train_epoch(recipe.batch_size, recipe.group_by_length, width)
    padded_tokens, squares = (int(epochs * share * value) for value in epoch)
    evaluations = math.ceil(steps / recipe.eval_every) if recipe.eval_every else math.ceil(epochs)
    batch = recipe.batch_size * EVAL_BATCH_FACTOR
    eval_positions, eval_squares = (
        int(evaluations * (dev + (1 - share) * train))
        for dev, train in zip(known.dev_epoch(batch, width), epoch, strict=True)
    )
    eval_batches = evaluations * math.ceil((len(known.dev) + len(known.train) - examples) / batch)
    return Cost(
        steps=steps,
        tokens=int(epochs * share * known.train.sum()),
        train=Work(
            steps, padded_tokens, squares, train_flops(cfg, steps * recipe.accumulation, padded_tokens, squares)
        ),
        evaluation=Work(
            eval_batches, eval_positions, eval_squares, eval_flops(cfg, eval_batches, eval_positions, eval_squares)
        ),
        memory=peak_memory(cfg, width or int(known.train.max())),
        lengths=known.source,
    )


def train_flops(cfg: RunConfig, batches: int, padded_tokens: int, squares: int) -> float:
    """Count the operations of forward and backward over so many batches, positions and Σ s²."""
    linear, adapter = linear_weights(cfg), adapter_weights(cfg)
    attention, per_batch = _attention(cfg, padded_tokens, squares), _relative_projections(cfg)
    forward = padded_tokens * (2.0 * linear + 2.0 * adapter) + attention + batches * per_batch
    if cfg.method.name == "head":
        return forward
    weights = 2.0 * linear if cfg.method.name == "full" else 0.0
    return forward + padded_tokens * (2.0 * linear + weights + 4.0 * adapter) + 2 * attention + batches * per_batch


def eval_flops(cfg: RunConfig, batches: int, padded_tokens: int, squares: int) -> float:
    """Count the operations of a forward pass; LoRA² is merged."""
    adapter = 0 if cfg.method.name == "lora2" else adapter_weights(cfg)
    attention = _attention(cfg, padded_tokens, squares) + batches * _relative_projections(cfg)
    return padded_tokens * 2.0 * (linear_weights(cfg) + adapter) + attention


def linear_weights(cfg: RunConfig) -> int:
    """Count N, the weights of all linear layers of the encoder: L (4 d² + 2 d f)."""
    shape = backbone(cfg)
    return shape.layers * (4 * shape.hidden**2 + 2 * shape.hidden * shape.intermediate)


def adapter_weights(cfg: RunConfig) -> int:
    """Count A, the weights of the adapter that every position is multiplied with."""
    shape, method = backbone(cfg), cfg.method
    if isinstance(method, BottleneckMethodConfig):
        return shape.layers * PLACES[method.name] * 2 * shape.hidden * method.bottleneck
    if isinstance(method, SubsetMethodConfig) or cfg.rank is None:
        return 0
    return lora_parameters(shape, cfg.rank.k or cfg.rank.r, matrices_of(method.targets))


def peak_memory(cfg: RunConfig, width: int) -> float:
    """Estimate the peak in bytes: weights in float32, gradient and two moments of what is trained, the widest batch's
    activations, the process.

    Activations after Korthikanti et al. 2022 (arXiv 2205.05198, eq. 1): s b d (34 + 5 a s / d) bytes a layer in 16 bit,
    twice that in float32. It is a little above what frozen layers and fused attention keep.
    """
    arch, shape = cfg.model.architecture, backbone(cfg)
    rows: int = arch["vocab_size"] + arch["max_position_embeddings"] + relative_positions(cfg)
    weights = linear_weights(cfg) + rows * shape.hidden
    trained = weights if cfg.method.name == "full" else adapter_weights(cfg) + shape.hidden**2
    examples = math.ceil(cfg.recipe.batch_size / cfg.recipe.accumulation)
    bytes_16: int = width * shape.hidden * 34 + 5 * arch["num_attention_heads"] * width**2
    kept = 1 if cfg.method.name == "head" else shape.layers  # without a backward pass one layer lives at a time
    return PROCESS_BYTES + 4 * weights + 12 * trained + examples * bytes_16 * kept * _word(cfg) / 2


def backbone(cfg: RunConfig) -> Backbone:
    """Read the encoder's shapes."""
    arch: dict[str, Any] = cfg.model.architecture
    return Backbone(cfg.model.name, arch["num_hidden_layers"], arch["hidden_size"], arch["intermediate_size"])


def relative_positions(cfg: RunConfig) -> int:
    """Count the rows of DeBERTa's table of relative positions; 0 elsewhere."""
    arch = cfg.model.architecture
    return 2 * int(arch["position_buckets"]) if arch.get("relative_attention") else 0


def _selected(cfg: RunConfig, examples: int) -> tuple[int, float]:
    """Training examples that are left when a slice is held out, and their share."""
    kept = train_size(examples, cfg.selection)
    return kept, kept / examples


def _attention(cfg: RunConfig, padded_tokens: int, squares: int) -> float:
    shape = backbone(cfg)
    return 4.0 * shape.layers * shape.hidden * (squares + relative_positions(cfg) * padded_tokens)


def _relative_projections(cfg: RunConfig) -> float:
    shape = backbone(cfg)
    return 4.0 * shape.layers * shape.hidden**2 * relative_positions(cfg)


def _word(cfg: RunConfig) -> int:
    """Bytes of an activation."""
    return 4 if cfg.recipe.precision == "fp32" else 2
