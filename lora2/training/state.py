"""Everything of a running training that a checkpoint must hold, and how it is put back."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from lora2.models.methods.base import Method
from lora2.training.checkpoint import Checkpoint
from lora2.training.fit import Fit


@dataclass(frozen=True)
class TrainingState:
    """Trained weights, optimizer, method state, random state of every process, loss scale, course of the run."""

    accelerator: Accelerator
    method: Method
    optimizer: torch.optim.Optimizer

    def capture(self, fit: Fit) -> Checkpoint:
        """A checkpoint of now; all processes must call it."""
        tensors: dict[str, Tensor] = {
            f"weights/{name}": p for group in self.method.groups for name, p in group.parameters.items()
        }
        tensors |= {f"best/{name}": value for name, value in fit.best_weights.items()}
        tensors |= self._optimizer_tensors()
        if self.method.stateful is not None:
            tensors |= {f"method/{name}": value for name, value in self.method.stateful.state_dict().items()}
        for rank, state in enumerate(gather_object([self._random_state()])):
            tensors |= {f"random/{rank}/{name}": value for name, value in state.items()}
        scaler = self.accelerator.scaler
        state = {
            "fit": fit.plain(),
            "scaler": scaler.state_dict() if scaler else None,
            "world": self.accelerator.num_processes,
        }
        return Checkpoint(fit.steps, tensors, state)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> Fit:
        """Put everything back; returns the course of the run so far."""
        tensors = checkpoint.tensors
        for group in self.method.groups:
            for name, parameter in group.parameters.items():
                parameter.copy_(tensors[f"weights/{name}"])
        self._restore_optimizer(tensors)
        if self.method.stateful is not None:
            self.method.stateful.load_state_dict(_under(tensors, "method/"))
        if checkpoint.state["world"] == self.accelerator.num_processes:  # else dropout starts anew from the seed
            random = _under(tensors, f"random/{self.accelerator.process_index}/")
            torch.set_rng_state(random["cpu"])
            if "cuda" in random:
                torch.cuda.set_rng_state(random["cuda"], self.accelerator.device)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
        return Fit.restore(checkpoint.state["fit"], _under(tensors, "best/"))

    def _random_state(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        return states

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {
            f"optimizer/{index}/{name}": value
            for index, parameter in enumerate(self._parameters())
            for name, value in self.optimizer.state[parameter].items()
        }

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        for index, parameter in enumerate(self._parameters()):
            state = _under(tensors, f"optimizer/{index}/")
            self.optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in state.items()}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
