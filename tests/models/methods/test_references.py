"""Every baseline as its reference has it: what differs between methods (docs/FIDELITY.md, "Baselines")."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lora2.config.schema import RunConfig
from lora2.core.heads import head_parameters
from lora2.models.backbone import load_model
from lora2.models.methods.base import Method
from lora2.models.methods.bottleneck import BottleneckLinear
from lora2.models.methods.build import build
from lora2.models.methods.sora import SoRALinear
from lora2.training.optim import optimizer_groups

FIDELITY = Path(__file__).resolve().parents[3] / "docs" / "FIDELITY.md"
DECAY = 0.1
SIZES = {  # large enough for statistics of the initial values
    "lora": ["rank.r=8", "rank.alpha=16"],
    "adalora": ["rank.r=8", "rank.alpha=16", "budget.target_rank=4"],
    "sora": ["rank.r=8", "rank.alpha=16"],
    "houlsby": ["method.bottleneck=16"],
    "pfeiffer": ["method.bottleneck=16"],
    "bitfit": [],
    "full": [],
}


@dataclass
class Built:
    """A method on a two-layer DeBERTa with random weights."""

    model: nn.Module
    method: Method
    cfg: RunConfig

    @property
    def adapter(self) -> dict[str, nn.Parameter]:
        """What is trained outside the head."""
        head = {name for name, _ in head_parameters(self.model)}
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad and name not in head}

    def part(self, ending: str) -> Tensor:
        """All numbers of the trained parameters whose name has this part."""
        return torch.cat([p.detach().flatten() for name, p in self.adapter.items() if ending in name])

    def decayed(self) -> set[str]:
        """Names of the parameters that the optimizer decays."""
        recipe = self.cfg.recipe.model_copy(update={"weight_decay": DECAY})
        groups = optimizer_groups(self.method, recipe)
        decaying = [group["params"] for group in groups if group["weight_decay"] == DECAY]
        found = {id(p) for parameters in decaying for p in parameters}  # type: ignore[attr-defined]
        return {name for name, p in self.model.named_parameters() if id(p) in found}

    def rates(self) -> set[float]:
        """Multiples of the common learning rate."""
        return {group.lr_scale for group in self.method.groups}


@dataclass(frozen=True)
class Setting:
    """One setting of a reference, and whether ours is it."""

    method: str
    what: str
    source: str
    holds: Callable[[Built], bool]


def near(values: Tensor, std: float) -> bool:
    """Whether these look like N(0, std²)."""
    return abs(float(values.std()) / std - 1) < 0.15 and abs(float(values.mean())) < 0.2 * std


def uniform(values: Tensor, bound: float) -> bool:
    """Whether these look uniform between -bound and bound."""
    return bool(values.abs().max() <= bound) and abs(float(values.std()) * math.sqrt(3) / bound - 1) < 0.1


def zero(values: Tensor) -> bool:
    return len(values) > 0 and not values.any()


@torch.no_grad()
def scaled_by(b: Built, scale: float, marker: str, product: Callable[[nn.Module], Tensor]) -> bool:
    """Whether every layer with this attribute adds `scale` times its product to its base's output."""
    for name, parameter in b.adapter.items():
        if zero(parameter.flatten()):
            nn.init.normal_(b.model.get_parameter(name))
    layers = [module for module in b.model.modules() if hasattr(module, marker)]
    return len(layers) == 12 and all(_adds(layer, scale * product(layer)) for layer in layers)


def _adds(layer: nn.Module, delta: Tensor) -> bool:
    base = layer.base_layer if hasattr(layer, "base_layer") else layer.base
    x = torch.randn(3, base.in_features)
    return torch.allclose(layer(x) - base(x), x @ delta.T, rtol=1e-3, atol=1e-4)


def lora_product(layer: nn.Module) -> Tensor:
    return layer.lora_B["default"].weight @ layer.lora_A["default"].weight


def adalora_product(layer: nn.Module) -> Tensor:
    return layer.lora_B["default"] @ (layer.lora_A["default"] * layer.lora_E["default"])


def sora_product(layer: nn.Module) -> Tensor:
    return layer.B @ torch.diag(layer.gate) @ layer.A


def places(b: Built) -> set[str]:
    """Which linear layers are wrapped by a bottleneck, without the layer's number."""
    return {n.split("layer.", 1)[1][2:] for n, m in b.model.named_modules() if isinstance(m, BottleneckLinear)}


def all_but_bias(b: Built, *spared: str) -> bool:
    """Whether everything decays but biases, LayerNorms, and names with these endings."""
    trained = {name for name, p in b.model.named_parameters() if p.requires_grad and "LayerNorm" not in name}
    return b.decayed() == {name for name in trained if not name.endswith(("bias", *spared))}


def no_dropout(b: Built) -> bool:
    """Whether no layer of the adapter drops anything."""
    drops = [m for n, m in b.model.named_modules() if n.endswith("lora_dropout")]
    return len(drops) > 0 and all(isinstance(x, nn.Identity) for drop in drops for x in drop.values())


def peft_betas(b: Built) -> bool:
    """Whether PEFT's allocator smooths with β1 = β2 = 0.85."""
    config = b.method._tuner.peft_config["default"]  # type: ignore[attr-defined]
    return (config.beta1, config.beta2) == (0.85, 0.85)


def parts_of_bottleneck(b: Built) -> bool:
    """Weights and biases of both projections, and nothing else."""
    return {".".join(n.split(".")[-2:]) for n in b.adapter} == {"down.weight", "down.bias", "up.weight", "up.bias"}


def encoder_names(b: Built, picked: Callable[[str], bool]) -> set[str]:
    head = {name for name, _ in head_parameters(b.model)}
    return {name for name, _ in b.model.named_parameters() if name not in head and picked(name)}


def steps_by(b: Built, threshold: float) -> bool:
    """Whether a step moves each open gate by the threshold."""
    gates = [module.gate for module in b.model.modules() if isinstance(module, SoRALinear)]
    before = torch.cat([gate.detach().clone() for gate in gates])
    with b.method.step(0, True):
        pass
    after = torch.cat([gate.detach() for gate in gates])
    return torch.allclose((before - after).abs()[after != 0], torch.tensor(threshold), rtol=1e-2)


LORA = "microsoft/LoRA @c4593f06, loralib/layers.py"
ADALORA = "QingruZhang/AdaLoRA @d10f5ebe, loralib/adalora.py"
SORA = "TsinghuaC3I/SoRA @c275ac23, src/lora.py"
SORA_TRAINER = "TsinghuaC3I/SoRA @c275ac23, src/trainer.py, run_glue.py"
SORA_SCRIPT = "TsinghuaC3I/SoRA @c275ac23, run_glue_sora_no_schedule.sh"
SORA_STEP = "TsinghuaC3I/SoRA @c275ac23, src/sparse_optimizer.py"
HOULSBY, PFEIFFER = "arXiv 1902.00751, section 2", "arXiv 2005.00247, section 3"
OURS = "ours, as BERT's own layers"
BITFIT = "arXiv 2106.10199, section 3"
TRAINER = "transformers' Trainer, with which the reference runs"

SETTINGS = (
    Setting("lora", "start of A", LORA, lambda b: uniform(b.part("query_proj.lora_A"), 1 / math.sqrt(32))),
    Setting("lora", "start of B", LORA, lambda b: zero(b.part("lora_B"))),
    Setting("lora", "scale", LORA, lambda b: scaled_by(b, 16 / 8, "lora_A", lora_product)),
    Setting("lora", "trained", LORA, lambda b: all(".lora_A." in n or ".lora_B." in n for n in b.adapter)),
    Setting("lora", "rate", LORA, lambda b: b.rates() == {1.0}),
    Setting("lora", "decay", TRAINER, all_but_bias),
    Setting("lora", "dropout", "arXiv 2106.09685, Table 9: none printed", no_dropout),
    Setting(
        "adalora", "start of P and Q", ADALORA, lambda b: near(b.part("lora_A"), 0.02) and near(b.part("lora_B"), 0.02)
    ),
    Setting("adalora", "start of Λ", ADALORA, lambda b: zero(b.part("lora_E"))),
    Setting("adalora", "scale", ADALORA, lambda b: scaled_by(b, 16 / 8, "lora_E", adalora_product)),
    Setting(
        "adalora",
        "smoothing",
        ADALORA,
        peft_betas,
    ),
    Setting("adalora", "rate", ADALORA, lambda b: b.rates() == {1.0}),
    Setting("adalora", "decay", TRAINER, all_but_bias),
    Setting("adalora", "dropout", "QingruZhang/AdaLoRA @d10f5ebe, NLU/scripts: none", no_dropout),
    Setting("sora", "start of A", SORA, lambda b: uniform(b.part("query_proj.A"), 1 / math.sqrt(32))),
    Setting("sora", "start of B", SORA, lambda b: zero(b.part(".B"))),
    Setting("sora", "start of the gates", SORA, lambda b: abs(float(b.part(".gate").std()) - 1) < 0.25),
    Setting("sora", "scale", SORA, lambda b: scaled_by(b, 16 / 8, "gate", sora_product)),
    Setting("sora", "decay of the gates", SORA_TRAINER, lambda b: all_but_bias(b, ".gate")),
    Setting("sora", "rate of the gates", SORA_TRAINER, lambda b: b.rates() == {1.0}),
    Setting("sora", "penalty", SORA_SCRIPT, lambda b: b.cfg.method.sparse_lambda == 10),
    Setting("sora", "threshold", SORA_SCRIPT, lambda b: b.cfg.method.sparse_lambda_2 == 3e-4),
    Setting("sora", "threshold whatever the rate", SORA_STEP, lambda b: steps_by(b, 3e-4)),
    Setting("houlsby", "where", HOULSBY, lambda b: places(b) == {"attention.output.dense", "output.dense"}),
    Setting("houlsby", "start of down", OURS, lambda b: near(b.part("down.weight"), 0.02)),
    Setting("houlsby", "start at the backbone", HOULSBY, lambda b: zero(b.part(".up.")) and zero(b.part("down.bias"))),
    Setting("houlsby", "trained", "arXiv 2303.10512, Table 1's counts", parts_of_bottleneck),
    Setting("houlsby", "decay", TRAINER, all_but_bias),
    Setting("pfeiffer", "where", PFEIFFER, lambda b: places(b) == {"output.dense"}),
    Setting("pfeiffer", "start of down", OURS, lambda b: near(b.part("down.weight"), 0.02)),
    Setting(
        "pfeiffer", "start at the backbone", PFEIFFER, lambda b: zero(b.part(".up.")) and zero(b.part("down.bias"))
    ),
    Setting("pfeiffer", "trained", "arXiv 2303.10512, Table 1's counts", parts_of_bottleneck),
    Setting("pfeiffer", "decay", TRAINER, all_but_bias),
    Setting("bitfit", "trained", BITFIT, lambda b: b.adapter.keys() == encoder_names(b, lambda n: n.endswith("bias"))),
    Setting("bitfit", "decay", TRAINER, all_but_bias),
    Setting("full", "trained", "every parameter", lambda b: b.adapter.keys() == encoder_names(b, lambda n: True)),
    Setting("full", "decay", TRAINER, all_but_bias),
)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda x: f"{x.method}: {x.what}")
def test_a_baseline_is_as_its_reference(setting: Setting, configure):
    cfg = configure(f"method={setting.method}", *SIZES[setting.method], "budget.t_i=0", "budget.t_f=1")
    torch.manual_seed(0)
    model = load_model(cfg.model, 2, None).eval()
    assert setting.holds(Built(model, build(model, cfg, 8), cfg))


def test_the_documentation_has_the_same_table():
    rows = {f"| {x.method} | {x.what} | {x.source} |" for x in SETTINGS}
    written = FIDELITY.read_text(encoding="utf-8").split("## Baselines\n")[1].splitlines()
    assert {line for line in written if line.startswith("| ")} - {"| method | setting | source |"} == rows


def test_every_baseline_is_in_the_table():
    assert {x.method for x in SETTINGS} == SIZES.keys()
    assert len({(x.method, x.what) for x in SETTINGS}) == len(SETTINGS)
