"""What `inject` returns: all factors of an adapted model, and what training, pruning and saving ask of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora2.common.errors import UserError
from lora2.core.heads import head_modules
from lora2.core.layers import FactorStack, LoRA2Linear
from lora2.core.orthogonality import PenaltyForm, penalties
from lora2.core.peft_format import save_lora
from lora2.core.terms import TERMS


class Adapter(nn.Module):
    """Hold all factors of an adapted model, one stack for each weight shape, and the layers that use them.

    Args:
        model: the adapted model.
        stacks: by "{d}x{o}".
        layers: by matrix name.
        lam_lr_scale: learning rate of Λ over that of the other factors.

    Attributes:
        stacks: FactorStack by "{d}x{o}".
        layers: LoRA2Linear by matrix name ("layer.0.query"), in the model's order.
    """

    def __init__(
        self,
        model: nn.Module,
        stacks: dict[str, FactorStack],
        layers: dict[str, LoRA2Linear],
        lam_lr_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.stacks = nn.ModuleDict(stacks)
        self.lam_lr_scale = lam_lr_scale
        # The tuples hide their content from nn.Module, because the model owns the layers, and this adapter.
        self._layers = (layers,)
        self._model = (model,)

    @property
    def layers(self) -> dict[str, LoRA2Linear]:
        """Layers by matrix name, in the model's order."""
        return self._layers[0]

    def factor_stacks(self) -> list[FactorStack]:
        """Return the stacks in the order of their first layer."""
        return [stack for stack in self.stacks.values() if isinstance(stack, FactorStack)]

    def penalties(self, terms: frozenset[str], form: PenaltyForm) -> dict[str, Tensor]:
        """Return the regularisers of eq. 5 over all matrices, a scalar for each term.

        Args:
            terms: which of "uv" (R(u,v)), "UV" (R(𝒰,𝒱)), "PQ" (R(P,Q)); with one scale there is "PQ" alone.
            form: "squared" sums ‖·‖²_F. "norm" averages ‖·‖_F over all Gram matrices of all terms together, so that
                the sum of the terms is the average that AdaLoRA's trainer takes.
        """
        if not terms:
            return {}
        found = penalties([stack.factors for stack in self.factor_stacks()], terms, form)
        if form == "norm":
            found = {term: value / (2 * len(self.layers) * len(found)) for term, value in found.items()}
        return dict(sorted(found.items()))

    def penalty(
        self, gamma: float = 0.1, terms: frozenset[str] = frozenset(TERMS), form: PenaltyForm = "squared"
    ) -> Tensor:
        """Return γ times the sum of the regularisers of eq. 5, a scalar to add to the loss once an optimizer step.

        Args:
            gamma: γ.
            terms: as for `penalties`.
            form: as for `penalties`.
        """
        return gamma * torch.stack(list(self.penalties(terms, form).values())).sum()

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the groups for an optimizer: all of the model that is trained, and Λ at its own rate.

        Args:
            lr: learning rate of everything but Λ, which learns `lam_lr_scale` times as fast.
        """
        singular = [stack.lam for stack in self.factor_stacks()]
        fast = {id(p) for p in singular}
        others = [p for p in self._model[0].parameters() if p.requires_grad and id(p) not in fast]
        return [{"params": others, "lr": lr}, {"params": singular, "lr": lr * self.lam_lr_scale}]

    def print_trainable_parameters(self) -> None:
        """Print how many parameters of the model are trained, in the words of PEFT."""
        sizes = [(p.numel(), p.requires_grad) for p in self._model[0].parameters()]
        trained, total = sum(n for n, is_trained in sizes if is_trained), sum(n for n, _ in sizes)
        print(f"trainable params: {trained:,d} || all params: {total:,d} || trainable%: {100 * trained / total:.4f}")

    def save_peft(self, folder: str | Path, base: str | None = None) -> dict[str, int]:
        """Write the adapter, and the head if it is trained, as a stock LoRA that peft loads without this library.

        Args:
            folder: for adapter_config.json and adapter_model.safetensors; it is made if need be.
            base: the hub id or the folder of the base model; None for where transformers loaded it from.

        Returns:
            The exported rank of every adapted module, at most min(k, kept singular values).

        Raises:
            UserError: `folder` is a file.
        """
        model, target = self._model[0], Path(folder)
        if target.is_file():
            raise UserError(f"folder: {folder} is a file; name a folder, new or old: save_peft('my-adapter')")
        head = head_modules(model)
        trained = [name for name in head if any(p.requires_grad for p in model.get_submodule(name).parameters())]
        config = getattr(model, "config", None)
        return save_lora(
            model,
            {name: x.lora_weights() for name, x in model.named_modules() if isinstance(x, LoRA2Linear)},
            target,
            base=base or getattr(config, "name_or_path", None) or None,
            task_type="SEQ_CLS" if head else None,
            whole=trained,
        )

    def ranks(self) -> dict[str, int]:
        """Return how many singular values of each matrix are not zero, by matrix name."""
        return {name: int(layer.stack.lam[layer.index].count_nonzero()) for name, layer in self.layers.items()}

    def merge(self) -> None:
        """Add every ΔW to its weight, in float32."""
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self) -> None:
        """Restore every weight, bit for bit."""
        for layer in self.layers.values():
            layer.unmerge()

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merge inside the block and restore what was merged: for evaluation at the backbone's own cost."""
        inside = [layer for layer in self.layers.values() if not layer.is_merged]
        for layer in inside:
            layer.merge()
        try:
            yield
        finally:
            for layer in inside:
                layer.unmerge()

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Compute inside the block with the ΔW that an export gives to a stock LoRA (LoRA2Linear.lora_weights)."""
        for layer in self.layers.values():
            a, b = layer.lora_weights()
            layer.merge(b @ a)
        try:
            yield
        finally:
            self.unmerge()

    def begin_forward(self, *_: object) -> None:
        """Let every stack fold once from here on; a forward pre-hook of the adapted model."""
        for stack in self.factor_stacks():
            stack.begin_forward()

    def end_forward(self, *_: object) -> None:
        """Drop the folds of all stacks; a forward hook of the adapted model."""
        for stack in self.factor_stacks():
            stack.end_forward()
