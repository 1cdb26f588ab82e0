"""Every baseline as its reference has it: what differs between methods (docs/FIDELITY.md, "Baselines")."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mutants import BASELINES
from torch import Tensor, nn

from lora2.config.schema import RunConfig
from lora2.core.heads import head_parameters
from lora2.models.backbone import load_model
from lora2.models.methods.adalora import AdaLoRA
from lora2.models.methods.base import Method
from lora2.models.methods.bottleneck import BottleneckLinear
from lora2.models.methods.build import build
from lora2.models.methods.sora import SoRALinear
from lora2.training.optim import optimizer_groups

FIDELITY = Path(__file__).resolve().parents[3] / "docs" / "FIDELITY.md"
DECAY = 0.1
IMPLEMENTATIONS = {"adalora": ("method.impl=stacked", "method.impl=peft")}  # of a method that has several
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

    def part(self, *parts: str) -> Tensor:
        """All numbers of the trained parameters whose name has one of these parts."""
        return torch.cat([p.detach().flatten() for name, p in self.adapter.items() if any(x in name for x in parts)])

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
    wake(b)
    layers = [module for module in b.model.modules() if hasattr(module, marker)]
    return len(layers) == 12 and all(_adds(layer, scale * product(layer)) for layer in layers)


@torch.no_grad()
def wake(b: Built) -> None:
    """Give numbers to what starts at zero, so that the adapter does something."""
    for name, parameter in b.adapter.items():
        if zero(parameter.flatten()):
            nn.init.normal_(b.model.get_parameter(name))


@torch.no_grad()
def drops_nothing(b: Built, kind: type[nn.Module]) -> bool:
    """Whether every layer of this kind computes the same in training as in evaluation."""
    wake(b)
    layers = [module for module in b.model.modules() if isinstance(module, kind)]
    inputs = [torch.randn(3, layer.base.in_features) for layer in layers]
    still = [torch.equal(layer.train()(x), layer.eval()(x)) for layer, x in zip(layers, inputs, strict=True)]
    return len(layers) > 0 and all(still)


@torch.no_grad()
def activated(b: Built) -> bool:
    """Whether each bottleneck adds up(gelu(down(y))) to the y that it is given."""
    wake(b)
    layers = [module for module in b.model.modules() if isinstance(module, BottleneckLinear)]
    inputs = [torch.randn(3, layer.base.in_features) for layer in layers]
    pairs = [(layer, layer(x), layer.base(x)) for layer, x in zip(layers, inputs, strict=True)]
    gelu = nn.functional.gelu
    return all(torch.allclose(out, y + layer.up(gelu(layer.down(y))), atol=1e-6) for layer, out, y in pairs)


def has_residual(b: Built) -> bool:
    """Whether the output of the layer before comes around a bottleneck that lets nothing through."""
    with torch.no_grad():
        for name in b.adapter:
            b.model.get_parameter(name).zero_()
    layers = [module for module in b.model.modules() if isinstance(module, BottleneckLinear)]
    inputs = [torch.randn(3, layer.base.in_features) for layer in layers]
    return all(torch.equal(layer(x), layer.base(x)) for layer, x in zip(layers, inputs, strict=True))


def adalora_penalty(b: Built) -> bool:
    """Whether it is γ times the mean over all P and Q of the distance of their Gram matrix from I, not squared."""
    if isinstance(b.method, AdaLoRA):
        factors = [x.detach() for stack in b.method.adapter.factor_stacks() for x in (*stack.u, *stack.U)]
    else:
        factors = [p.detach() if "lora_A" in n else p.detach().mT for n, p in b.adapter.items() if "lora_E" not in n]
    distances = [torch.linalg.matrix_norm(x @ x.mT - torch.eye(len(x))) for x in factors]
    wanted = b.cfg.method.penalty.weight * torch.stack(distances).mean()  # type: ignore[union-attr]
    (got,) = b.method.penalties().values()
    return len(factors) == 24 and bool(torch.isclose(got, wanted))


def sora_penalty(b: Built) -> bool:
    """Whether it is 10 times the mean |gate|."""
    (got,) = b.method.penalties().values()
    return bool(torch.isclose(got, 10 * b.part(".gate").abs().mean()))


def _adds(layer: nn.Module, delta: Tensor) -> bool:
    base = layer.base if hasattr(layer, "base") else layer
    x = torch.randn(3, base.weight.shape[1])
    frozen = nn.functional.linear(x, base.weight, base.bias)
    return torch.allclose(layer(x) - frozen, x @ delta.T, rtol=1e-3, atol=1e-4)


def lora_product(layer: nn.Module) -> Tensor:
    return layer.lora_B["default"].weight @ layer.lora_A["default"].weight


def adalora_scaled(b: Built, scale: float) -> bool:
    """Whether the scale of either implementation is this one."""
    if isinstance(b.method, AdaLoRA):
        return scaled_by(b, scale, "stack", one_scale_product)
    return scaled_by(b, scale, "lora_E", adalora_product)


def one_scale_product(layer: nn.Module) -> Tensor:
    stack, i = layer.stack, layer.index
    return stack.U[i].T @ torch.diag(stack.lam[i]) @ stack.u[i]


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
    if isinstance(b.method, AdaLoRA):
        return all([*layer.modules()] == [layer] for layer in b.method.adapter.layers.values())
    drops = [m for n, m in b.model.named_modules() if n.endswith("lora_dropout")]
    return len(drops) > 0 and all(isinstance(x, nn.Identity) for drop in drops for x in drop.values())


def betas(b: Built) -> tuple[float, float]:
    """β1 and β2, with which the allocator smooths."""
    if isinstance(b.method, AdaLoRA):
        assert b.method.allocator is not None
        return b.method.allocator.betas
    config = b.method._tuner.peft_config["default"]  # type: ignore[attr-defined]
    return (config.beta1, config.beta2)


def parts(b: Built, *endings: str) -> bool:
    """Whether each trained parameter is of one of these kinds, and each kind is trained."""
    found = {next((ending for ending in endings if ending in f"{name}."), None) for name in b.adapter}
    return found == set(endings)


def adalora_parts(b: Built) -> bool:
    """Whether P, Λ and Q are trained, by either implementation's names, and nothing else."""
    ours = isinstance(b.method, AdaLoRA)
    return parts(b, *((".u.", ".lam.", ".U.") if ours else (".lora_A.", ".lora_E.", ".lora_B.")))


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


LORA = "microsoft/LoRA @c4593f06 loralib/layers.py"
LORA_TRAINED = "microsoft/LoRA @2eb74c2d loralib/utils.py"
ADALORA = "QingruZhang/AdaLoRA @19e47de0 loralib/loralib/adalora.py"
ADALORA_SCRIPT = "QingruZhang/AdaLoRA @f6968aae NLU/scripts/run_debertav3_mrpc.sh"
SORA = "TsinghuaC3I/SoRA @7ca93d54 src/lora.py"
SORA_TRAINER = "TsinghuaC3I/SoRA @7ca93d54 src/trainer.py"
SORA_RUN = "TsinghuaC3I/SoRA @7ca93d54 run_glue.py"
SORA_SCRIPT = "TsinghuaC3I/SoRA @7ca93d54 scripts/run_glue_sora_no_schedule.sh"
SORA_STEP = "TsinghuaC3I/SoRA @7ca93d54 src/sparse_optimizer.py"
HOULSBY = "google-research/adapter-bert @69b7c580 modeling.py"
HOULSBY_DECAY = "google-research/adapter-bert @69b7c580 optimization.py"
PFEIFFER = "adapter-hub/adapters @01ff518f src/transformers/adapters/configuration.py"
PFEIFFER_LAYER = "adapter-hub/adapters @086e4cc4 src/transformers/adapters/modeling.py"
OURS_GELU = "ours, as Houlsby's; adapter-hub/adapters @01ff518f has ReLU"
OURS_START = "ours: down as BERT's own layers, up at zero"
BITFIT = "benzakenelad/BitFit @1d66f598 GLUEvaluator.py, BIAS_TERMS_DICT: all"
COUNTS = "arXiv 2303.10512, Table 1's counts"
COMMON = "one rate for all, as in the reference's Trainer"
TRAINER = "transformers' Trainer, with which the reference runs"


def bottleneck(method: str, gelu: str, where: str, residual: str, decay: str, places_: set[str]) -> tuple[Setting, ...]:
    """The lines that both kinds of bottleneck adapters have."""
    return (
        Setting(method, "where", where, lambda b: places(b) == places_),
        Setting(method, "activation", gelu, activated),
        Setting(method, "residual", residual, has_residual),
        Setting(method, "start of down", OURS_START, lambda b: near(b.part("down.weight"), 0.02)),
        Setting(
            method, "start at the backbone", OURS_START, lambda b: zero(b.part(".up.")) and zero(b.part("down.bias"))
        ),
        Setting(method, "trained", COUNTS, parts_of_bottleneck),
        Setting(method, "dropout", f"{residual}: none inside", lambda b: drops_nothing(b, BottleneckLinear)),
        Setting(method, "rate", COMMON, lambda b: b.rates() == {1.0}),
        Setting(method, "decay", decay, all_but_bias),
    )


SETTINGS = (
    Setting("lora", "start of A", LORA, lambda b: uniform(b.part("query_proj.lora_A"), 1 / math.sqrt(32))),
    Setting("lora", "start of B", LORA, lambda b: zero(b.part("lora_B"))),
    Setting("lora", "scale", LORA, lambda b: scaled_by(b, 16 / 8, "lora_A", lora_product)),
    Setting("lora", "trained", LORA_TRAINED, lambda b: parts(b, ".lora_A.", ".lora_B.")),
    Setting("lora", "rate", COMMON, lambda b: b.rates() == {1.0}),
    Setting("lora", "decay", TRAINER, all_but_bias),
    Setting("lora", "dropout", f"{LORA}: 0 by default; arXiv 2106.09685, Table 9 prints none", no_dropout),
    Setting(
        "adalora",
        "start of P and Q",
        ADALORA,
        lambda b: near(b.part("lora_A", ".u"), 0.02) and near(b.part("lora_B", ".U"), 0.02),
    ),
    Setting("adalora", "start of the singular values", ADALORA, lambda b: zero(b.part("lora_E", ".lam"))),
    Setting("adalora", "scale", ADALORA, lambda b: adalora_scaled(b, 16 / 8)),
    Setting("adalora", "trained", ADALORA, adalora_parts),
    Setting("adalora", "regulariser", f"{ADALORA}, compute_orth_regu", adalora_penalty),
    Setting("adalora", "smoothing of the scores", f"{ADALORA_SCRIPT}, --beta1", lambda b: betas(b)[0] == 0.85),
    Setting("adalora", "smoothing of their spread", f"{ADALORA_SCRIPT}, --beta2", lambda b: betas(b)[1] == 0.85),
    Setting("adalora", "rate", COMMON, lambda b: b.rates() == {1.0}),
    Setting("adalora", "decay", TRAINER, all_but_bias),
    Setting("adalora", "dropout", f"{ADALORA_SCRIPT}: none set", no_dropout),
    Setting("sora", "start of A", SORA, lambda b: uniform(b.part("query_proj.A"), 1 / math.sqrt(32))),
    Setting("sora", "start of B", SORA, lambda b: zero(b.part(".B"))),
    Setting("sora", "start of the gates", SORA, lambda b: abs(float(b.part(".gate").std()) - 1) < 0.25),
    Setting("sora", "scale", SORA, lambda b: scaled_by(b, 16 / 8, "gate", sora_product)),
    Setting("sora", "trained", SORA, lambda b: parts(b, ".A.", ".B.", ".gate.")),
    Setting("sora", "dropout", f"{SORA}: 0 by default", lambda b: drops_nothing(b, SoRALinear)),
    Setting("sora", "decay of the gates", SORA_RUN, lambda b: all_but_bias(b, ".gate")),
    Setting("sora", "rate of the gates", SORA_RUN, lambda b: b.rates() == {1.0}),
    Setting("sora", "penalty", f"{SORA_TRAINER}, compute_loss; λ: {SORA_SCRIPT}", sora_penalty),
    Setting("sora", "threshold", SORA_SCRIPT, lambda b: b.cfg.method.sparse_lambda_2 == 3e-4),
    Setting("sora", "threshold whatever the rate", SORA_STEP, lambda b: steps_by(b, 3e-4)),
    *bottleneck("houlsby", HOULSBY, HOULSBY, HOULSBY, HOULSBY_DECAY, {"attention.output.dense", "output.dense"}),
    *bottleneck("pfeiffer", OURS_GELU, PFEIFFER, PFEIFFER_LAYER, TRAINER, {"output.dense"}),
    Setting("bitfit", "trained", BITFIT, lambda b: b.adapter.keys() == encoder_names(b, lambda n: n.endswith("bias"))),
    Setting("bitfit", "rate", COMMON, lambda b: b.rates() == {1.0}),
    Setting("bitfit", "decay", TRAINER, all_but_bias),
    Setting("full", "trained", "every parameter", lambda b: b.adapter.keys() == encoder_names(b, lambda n: True)),
    Setting("full", "rate", COMMON, lambda b: b.rates() == {1.0}),
    Setting("full", "decay", TRAINER, all_but_bias),
)
# The faults of tests/mutants.py, each planted against one line's test.
PLANTED = [mutant.name for mutant in BASELINES]


def planted(setting: Setting) -> list[str]:
    """The faults that are planted against a line."""
    line = f"{setting.method}: {setting.what}: "
    return [name.removeprefix(line) for name in PLANTED if name.startswith(line)]


@pytest.mark.parametrize("setting", SETTINGS, ids=[f"{x.method}: {x.what}" for x in SETTINGS])
def test_a_baseline_is_as_its_reference(setting: Setting, configure):
    for impl in IMPLEMENTATIONS.get(setting.method, ("seed=0",)):
        cfg = configure(f"method={setting.method}", *SIZES[setting.method], "budget.t_i=0", "budget.t_f=1", impl)
        torch.manual_seed(0)
        model = load_model(cfg.model, 2, None).eval()
        assert setting.holds(Built(model, build(model, cfg, 8), cfg))


def test_the_documentation_has_the_same_table():
    rows = {f"| {x.method} | {x.what} | {x.source} | {'; '.join(planted(x))} |" for x in SETTINGS}
    written = FIDELITY.read_text(encoding="utf-8").split("## Baselines\n")[1].splitlines()
    header = "| method | setting | source | planted fault |"
    assert {line for line in written if line.startswith("| ")} - {header} == rows


def test_every_baseline_is_in_the_table():
    assert {x.method for x in SETTINGS} == SIZES.keys()
    assert len({(x.method, x.what) for x in SETTINGS}) == len(SETTINGS)


def test_every_line_has_a_planted_fault():
    assert [f"{x.method}: {x.what}" for x in SETTINGS if not planted(x)] == []
    assert sum(len(planted(x)) for x in SETTINGS) == len(PLANTED)
