"""The state of a training run: what it has led to so far, and how a checkpoint captures and restores all of it."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from lora2.models.methods.base import Method
from lora2.training.checkpoint import Checkpoint


@dataclass
class TrainState:
    """The course of a run.

    Attributes:
        steps: optimizer steps done.
        tokens, padded_tokens: tokens trained on by all processes, without and with padding.
        best, last: dev metrics; best by the task's main metric on the selecting split, the first of equals.
        best_step, best_selection: the step of `best`, and that metric's value.
        best_is_constant, last_is_constant: whether every example of a dev split got one prediction then.
        history: "train": losses and learning rate, "eval": dev metrics, "monitor": what the method shows of itself.
            Each entry has its step.
        seconds: by phase of the loop.
        best_weights: the trained parameters at `best_step`, on the CPU.
    """

    steps: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    best_step: int = -1
    best_selection: float | None = None
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    best_is_constant: bool = False
    last_is_constant: bool = False
    history: dict[str, list[dict[str, float]]] = field(
        default_factory=lambda: {name: [] for name in ("train", "eval", "monitor")}
    )
    seconds: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def train_seconds(self) -> float:
        """Seconds in the loop so far, evaluation apart."""
        return sum(self.seconds.values()) - self.seconds.get("eval", 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the weights."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "best_weights"}

    @classmethod
    def from_json(cls, values: dict[str, Any], best_weights: dict[str, Tensor]) -> "TrainState":
        """Undo `to_json`; a checkpoint from before a field was there has its default."""
        return cls(**values, best_weights=best_weights)


def trained_parameters(method: Method) -> dict[str, nn.Parameter]:
    """Return every trained parameter by name."""
    return {name: parameter for group in method.groups for name, parameter in group.parameters.items()}


def capture(
    state: TrainState, method: Method, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> Checkpoint:
    """Return a checkpoint of now; all processes must call it.

    It holds the trained weights, the best ones, the optimizer's state, the method's, the random state of every process,
    the loss scale and the course of the run.
    """
    tensors: dict[str, Tensor] = {f"weights/{name}": p for name, p in trained_parameters(method).items()}
    tensors |= {f"best/{name}": value for name, value in state.best_weights.items()}
    for index, parameter in enumerate(_optimized(optimizer)):
        tensors |= {f"optimizer/{index}/{name}": value for name, value in optimizer.state[parameter].items()}
    if method.stateful is not None:
        tensors |= {f"method/{name}": value for name, value in method.stateful.state_dict().items()}
    for rank, random in enumerate(gather_object([_random_state(accelerator.device)])):
        tensors |= {f"random/{rank}/{name}": value for name, value in random.items()}
    scaler = accelerator.scaler
    plain = {
        "train_state": state.to_json(),
        "scaler": scaler.state_dict() if scaler else None,
        "world": accelerator.num_processes,
    }
    return Checkpoint(state.steps, tensors, plain)


@torch.no_grad()
def restore(
    checkpoint: Checkpoint, method: Method, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> TrainState:
    """Put everything back that `capture` took, and return the course of the run so far."""
    tensors = checkpoint.tensors
    for name, weight in trained_parameters(method).items():
        weight.copy_(tensors[f"weights/{name}"])
    for index, parameter in enumerate(_optimized(optimizer)):
        moments = _under(tensors, f"optimizer/{index}/")
        optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in moments.items()}
    if method.stateful is not None:
        method.stateful.load_state_dict(_under(tensors, "method/"))
    if checkpoint.state["world"] == accelerator.num_processes:  # else dropout starts anew from the seed
        _set_random_state(_under(tensors, f"random/{accelerator.process_index}/"), accelerator.device)
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    return TrainState.from_json(checkpoint.state["train_state"], _under(tensors, "best/"))


def _optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
