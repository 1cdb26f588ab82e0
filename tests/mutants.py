"""Planted faults: each one must turn a test red. A script, not collected by pytest.

    python tests/mutants.py [--only issue2 | --only NAME | --survivors] [--jobs 2]

Every fault is planted alone in a temporary copy of the project. The figures go to results/faults.json under "mutants"
when all of them were tried, or those that had survived. tests/end_to_end/test_mutants.py keeps the table from rotting.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faults.figures import merge_figures

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("lora2", "tests", "configs", "scripts", "results", "docs", "examples")
COPIED = (*FOLDERS, "pyproject.toml", "README.md", "Makefile")
FIGURES = ROOT / "results" / "faults.json"
SECONDS = 600
HEAVY = ("pytest", "torch", "peft", "datasets", "accelerate", "hydra", "pydantic", "matplotlib", "transformers.trainer")
FORKS = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file` the text `old`, which occurs once, becomes `new`; `tests` must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    issue2: bool = False


def _mutant(name: str, file: str, old: str, new: str, *tests: str, issue2: bool = False) -> Mutant:
    return Mutant(name, f"lora2/{file}", old, new, tuple(f"tests/{test}" for test in tests), issue2)


CHANGED = "glue/test_glue_changed_files.py"
LIBRARY, REFERENCES = "core/test_trainer.py", "models/methods/test_references.py"
ADALORA, ADALORA_EQUAL = "models/methods/test_adalora.py", "models/methods/test_adalora_equal.py"
ORTHOGONALITY, JOINT = "core/test_orthogonality.py", "core/test_joint.py"
DEBERTA = "models/test_deberta.py"
FUNCTIONAL, LAYERS, LINEAR = "core/test_functional.py", "core/test_layers.py", "core/test_linear.py"
ALLOCATOR, BUDGET, INJECT, TRAINER = (
    "core/test_allocator.py",
    "core/test_budget.py",
    "core/test_inject.py",
    "training/test_loop.py",
)
CAPTURED = "training/test_captured.py"
VERIFY, COMPARE = "runs/test_verify.py", "runs/test_verify_compare.py"


def _line(line: str, file: str, old: str, new: str, what: str) -> Mutant:
    """A fault in what one line of the baselines' table holds: that line's own test must fail."""
    test = f"tests/{REFERENCES}::test_a_baseline_is_as_its_reference[{line}]"
    return Mutant(f"{line}: {what}", file, old, new, (test,))


def _both(what: str, file: str, old: str, new: str, *methods: str, setting: str) -> tuple[Mutant, ...]:
    """The same fault in code that several methods share, once for the line of each."""
    return tuple(_line(f"{method}: {setting}", file, old, new, what) for method in methods)


METHODS = "lora2/models/methods"
LORA, PEFT, SORA = (f"{METHODS}/{name}.py" for name in ("lora", "adalora_peft", "sora"))
BOTTLENECK, SUBSET = f"{METHODS}/bottleneck.py", f"{METHODS}/subset.py"
PARTS = "        self._adapter, self._head = trained_parts(model)\n"
ALPHA, CUBIC, SORA_YAML = '"lora_alpha": rank.alpha,', "configs/budget/cubic.yaml", "configs/method/sora.yaml"
TWO = "[ParameterGroup(self._adapter), "
BASELINES = (
    _line("lora: start of A", LORA, "alpha=rank.alpha,", 'alpha=rank.alpha, init_lora_weights="gaussian",', "Gaussian"),
    _line("lora: start of B", LORA, "alpha=rank.alpha,", "alpha=rank.alpha, init_lora_weights=False,", "random"),
    _line("lora: scale", LORA, "lora_alpha=rank.alpha,", "lora_alpha=rank.r,", "1"),
    _line("lora: trained", LORA, "alpha=rank.alpha,", 'alpha=rank.alpha, bias="all",', "biases too"),
    _line("lora: rate", LORA, TWO, "[ParameterGroup(self._adapter, 2.0), ", "twice the common one"),
    _line("lora: decay", LORA, TWO, "[ParameterGroup(self._adapter, decays=False), ", "none"),
    _line("lora: dropout", LORA, "alpha=rank.alpha,", "alpha=rank.alpha, lora_dropout=0.1,", "a tenth"),
    _line(
        "adalora: start of P and Q",
        PEFT,
        PARTS,
        f"{PARTS}        _ = [nn.init.normal_(p) for name, p in self._adapter.items() if 'lora_A' in name]\n",
        "fifty times as wide",
    ),
    _line(
        "adalora: start of the singular values",
        PEFT,
        PARTS,
        f"{PARTS}        _ = [nn.init.ones_(p) for name, p in self._adapter.items() if 'lora_E' in name]\n",
        "one",
    ),
    _line("adalora: scale", PEFT, ALPHA, '"lora_alpha": rank.r,', "1"),
    _line("adalora: trained", PEFT, ALPHA, f'{ALPHA} "bias": "all",', "biases too"),
    _line("adalora: regulariser", PEFT, "(2 * len(self._matrices))", "len(self._matrices)", "a sum of P's and Q's"),
    _line("adalora: smoothing of the scores", PEFT, "beta1=budget.beta1", "beta1=budget.beta1 / 2", "half of it"),
    _line("adalora: smoothing of the scores", CUBIC, "beta1: 0.85", "beta1: 0.9", "another default"),
    _line("adalora: smoothing of their spread", PEFT, "beta2=budget.beta2", "beta2=budget.beta2 / 2", "half of it"),
    _line("adalora: smoothing of their spread", CUBIC, "beta2: 0.85", "beta2: 0.9", "another default"),
    _line("adalora: rate", PEFT, TWO, "[ParameterGroup(self._adapter, 2.0), ", "twice the common one"),
    _line("adalora: decay", PEFT, TWO, "[ParameterGroup(self._adapter, decays=False), ", "none"),
    _line("adalora: dropout", PEFT, ALPHA, f'{ALPHA} "lora_dropout": 0.1,', "a tenth"),
    _line("sora: start of A", SORA, "uniform_(self.A, a=math.sqrt(5))", "uniform_(self.A)", "wider"),
    _line("sora: start of B", SORA, "base.weight.new_zeros(base.out", "base.weight.new_ones(base.out", "one"),
    _line("sora: start of the gates", SORA, "torch.randn(r, device", "torch.ones(r, device", "one"),
    _line("sora: scale", SORA, "rank.alpha / rank.r)", "rank.alpha)", "alpha"),
    _line(
        "sora: trained",
        SORA,
        "        model.requires_grad_(False)\n",
        '        for name, p in model.named_parameters():\n            p.requires_grad = "LayerNorm" in name\n',
        "LayerNorms too",
    ),
    _line("sora: dropout", SORA, "linear(x, self.A)", "linear(F.dropout(x, 0.1, self.training), self.A)", "a tenth"),
    _line("sora: decay of the gates", SORA, "lr_scale, decays=False)", "lr_scale)", "as the factors'"),
    _line("sora: rate of the gates", SORA, "(gates, method.gate", "(gates, 10 * method.gate", "ten times as much"),
    _line("sora: rate of the gates", SORA_YAML, "gate_lr_scale: 1.0", "gate_lr_scale: 2.0", "another default"),
    _line("sora: penalty", SORA, "gates]).abs().mean()", "gates]).abs().sum()", "a sum"),
    _line("sora: penalty", SORA_YAML, "sparse_lambda: 10 ", "sparse_lambda: 1 ", "a tenth of λ"),
    _line("sora: threshold", SORA_YAML, "_2: 3.0e-4", "_2: 3.0e-5", "a tenth of λ2"),
    _line("sora: threshold whatever the rate", SORA, "gates, self._threshold)", "gates, self._threshold / 9)", "less"),
    _line("houlsby: where", BOTTLENECK, '"houlsby": ("attn_output", "ffn_w2")', '"houlsby": ("ffn_w2",)', "one of two"),
    _line("pfeiffer: where", BOTTLENECK, '"pfeiffer": ("ffn_w2",)', '"pfeiffer": ("attn_output", "ffn_w2")', "both"),
    *(
        mutant
        for setting, old, new, what in (
            ("activation", "F.gelu(self.down(y))", "F.relu(self.down(y))", "another"),
            ("residual", "y + self.up(", "self.up(", "none"),
            ("start of down", "INIT_STD = 0.02", "INIT_STD = 0.2", "ten times as wide"),
            ("start at the backbone", "(self.down.bias, self.up.weight, ", "(self.down.bias, ", "a random way up"),
            ("trained", "(bottleneck, base.out_features, ", "(bottleneck, base.out_features, False, ", "no bias"),
            ("dropout", "F.gelu(self.down(y))", "F.dropout(F.gelu(self.down(y)), 0.5, self.training)", "half"),
            ("rate", TWO, "[ParameterGroup(self._adapter, 2.0), ", "twice the common one"),
            ("decay", TWO, "[ParameterGroup(self._adapter, decays=False), ", "none"),
        )
        for mutant in _both(what, BOTTLENECK, old, new, "houlsby", "pfeiffer", setting=setting)
    ),
    _line("bitfit: trained", SUBSET, 'endswith("bias"),', 'endswith("dense.bias"),', "not those of LayerNorms"),
    _line("full: trained", SUBSET, '"full": lambda name: True', '"full": lambda name: "emb" not in name', "not all"),
    *_both("twice the common one", SUBSET, "(trained)]", "(trained, 2.0)]", "bitfit", "full", setting="rate"),
    *_both("none", SUBSET, "(trained)]", "(trained, decays=False)]", "bitfit", "full", setting="decay"),
)

MUTANTS = (
    # ------------------------------------------------------------ the eight of issue 2, Done when 1
    _mutant(
        "k and r swapped",
        "models/methods/lora2.py",
        "k=rank.k, r=rank.r,",
        "k=rank.r, r=rank.k,",
        TRAINER,
        issue2=True,
    ),
    _mutant(
        "Λ missing from the forward",
        "core/functional.py",
        "(f.u * (scale * f.lam).unsqueeze(-1))",
        "(f.u * scale)",
        FUNCTIONAL,
        issue2=True,
    ),
    _mutant(
        "alpha / r scale missing",
        "core/functional.py",
        "(f.u * (scale * f.lam).unsqueeze(-1))",
        "(f.u * f.lam.unsqueeze(-1))",
        FUNCTIONAL,
        issue2=True,
    ),
    _mutant(
        "off-by-one in the schedule",
        "core/budget.py",
        "elapsed = step - self.t_i - (",
        "elapsed = step - self.t_i + 1 - (",
        BUDGET,
        issue2=True,
    ),
    _mutant(
        "<= threshold instead of exact top-b",
        "core/functional.py",
        "    return torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, order[:budget], True)",
        "    return scores >= scores[order[budget - 1]]",
        FUNCTIONAL,
        issue2=True,
    ),
    _mutant(
        "regulariser misses a term",
        "core/orthogonality.py",
        "distances(inner.mT @ inner, form) + distances(gram_v, form)",
        "distances(inner.mT @ inner, form)",
        ORTHOGONALITY,
        issue2=True,
    ),
    _mutant(
        "importance after zero_grad",
        "models/methods/lora2.py",
        "        if self.allocator is not None and grads_finite:\n"
        "            self.allocator.observe(step)\n        yield\n",
        "        yield\n        if self.allocator is not None and grads_finite:\n"
        "            for p in self.adapter.parameters():\n                p.grad = p.grad * 0\n"
        "            self.allocator.observe(step)\n",
        TRAINER,
        issue2=True,
    ),
    _mutant(
        "QUOTE_MINIMAL in the TSV reader",
        "glue/tsv.py",
        '[line.split("\\t") for line in lines]',
        '[row for line in lines for row in __import__("csv").reader([line], delimiter="\\t")]',
        "glue/test_glue_local.py",
        issue2=True,
    ),
    # ------------------------------------------------------------------------ files that are not the official ones
    _mutant(
        "bad rows dropped without a word",
        "glue/local.py",
        "        if table.dropped:",
        "        if table.dropped and False:",
        CHANGED,
    ),
    _mutant(
        "bad rows dropped though refused", "glue/tsv.py", "    if advice is not None:", "    if advice == '':", CHANGED
    ),
    _mutant(
        "rows of a test file dropped",
        "glue/local.py",
        "_advice(task, on_bad_row) if labelled else _EVERY_ROW",
        "_advice(task, on_bad_row)",
        CHANGED,
    ),
    _mutant(
        "lines of the kept rows counted anew",
        "glue/tsv.py",
        "lines=[table.lines[position] for position in kept]",
        "lines=table.lines[: len(kept)]",
        CHANGED,
    ),
    _mutant(
        "QQP's cause not named",
        "glue/local.py",
        "_OLD_QQP if task.name == 'qqp' else",
        "_OLD_QQP if False else",
        CHANGED,
    ),
    _mutant("iconv from UTF-8", "glue/encoding.py", "iconv -f {encoding} -t UTF-8", "iconv -t UTF-8", CHANGED),
    _mutant(
        "converted path not quoted",
        "glue/encoding.py",
        "source = shlex.quote(str(path.absolute()))",
        "source = str(path.absolute())",
        CHANGED,
    ),
    _mutant(
        "stray bytes converted as Latin-1",
        "glue/encoding.py",
        "return None if letters > len(stray) else",
        "return",
        CHANGED,
    ),
    _mutant(
        "zero bytes are text",
        "glue/encoding.py",
        "if zeros[likely] > len(content) // 4:",
        "if zeros[likely] > len(content):",
        CHANGED,
    ),
    _mutant(
        "quotes at both ends are a spreadsheet's",
        "glue/local.py",
        """and '""' in inside and '"' not in""",
        """and '"' not in""",
        CHANGED,
    ),
    _mutant(
        "a changed file passes for the official one",
        "glue/local.py",
        "if not is_official(task, name, content):",
        "if len(splits[name]) != task.rows[name]:",
        CHANGED,
    ),
    _mutant(
        "a test file's position taken for its index",
        "glue/tsv.py",
        "sorted(range(len(order)), key=order.__getitem__)",
        "range(len(order))",
        CHANGED,
        "runs/test_submission.py",
    ),
    _mutant("doubled ids pass", "glue/tsv.py", "if count > 1)\n    missing", "if count > 9)\n    missing", CHANGED),
    _mutant(
        "missing ids pass",
        "glue/tsv.py",
        "missing = sorted(set(range(len(counts))) - counts.keys())",
        "missing: list[int] = []",
        CHANGED,
    ),
    _mutant(
        "two runs' submissions in one folder",
        "runs/submission.py",
        'Path("outputs/submission") / record.run_id / which',
        'Path("outputs/submission")',
        "runs/test_submission.py",
    ),
    _mutant(
        "a user's submission replaced",
        "runs/submission.py",
        "if file.exists():",
        "if False:",
        "runs/test_submission.py",
    ),
    _mutant(
        "a trained head reported as new",
        "runs/restore.py",
        "    quiet_transformers()  #",
        "    #",
        "runs/test_submission.py",
    ),
    _mutant(
        "dropping rows changes the name of a run",
        "config/identity.py",
        'settings["data"] = {"fingerprint": data_fingerprint}',
        'settings["data"] = {"fingerprint": data_fingerprint, "bad": cfg.data.on_bad_row}',
        "config/test_config.py",
    ),
    _mutant(
        "on_bad_row=drop accepted where it does nothing",
        "config/checks.py",
        'if values.get("data.on_bad_row") == "drop" and',
        "if False and",
        "end_to_end/test_bad_inputs.py",
    ),
    _mutant(
        "a run forgets data.on_bad_row",
        "config/task.py",
        ", on_bad_row=cfg.data.on_bad_row)",
        ")",
        "training/test_bad_rows.py",
    ),
    # -------------------------------------------------------------------------------- functional
    _mutant(
        "u and 𝒰 exchanged",
        "core/functional.py",
        ".transpose(-1, -2) @ f.U  #",
        ".transpose(-1, -2) @ f.u  #",
        FUNCTIONAL,
    ),
    _mutant(
        "ΔW transposed factors", "core/functional.py", "return f.v, core @ f.V", "return f.v, core.mT @ f.V", FUNCTIONAL
    ),
    _mutant(
        "R(P,Q) forgets the products' inner Gram",
        "core/orthogonality.py",
        "distances(inner @ gram_v @ inner.mT, form)",
        "distances(inner @ inner.mT, form)",
        ORTHOGONALITY,
    ),
    _mutant(
        "R(𝒰,𝒱) reads u", "core/orthogonality.py", "*(f.U for f in stacks)", "*(f.u for f in stacks)", ORTHOGONALITY
    ),
    _mutant(
        "a Gram's gradient is of one side",
        "core/orthogonality.py",
        "both = grad + grad.mT",
        "both = 2 * grad",
        ORTHOGONALITY,
    ),
    _mutant(
        "the stacks' order of 𝒱 is another",
        "core/orthogonality.py",
        "*(f.V for f in stacks)",
        "*(f.V for f in reversed(stacks))",
        ORTHOGONALITY,
    ),
    _mutant(
        "norm form is squared",
        "core/orthogonality.py",
        "torch.linalg.matrix_norm(off)",
        "off.square().sum((-2, -1))",
        ORTHOGONALITY,
    ),
    _mutant(
        "penalty without − I",
        "core/orthogonality.py",
        "off = gram - torch.eye(",
        "off = gram - 0 * torch.eye(",
        ORTHOGONALITY,
    ),
    _mutant(
        "uncertainty from the old Ī",
        "core/functional.py",
        "change = update_sensitivity(smoothed, weights, grads, beta1)  # I\n    torch._foreach_sub_(change, smoothed)",
        "old = [x.clone() for x in smoothed]\n    change = update_sensitivity(smoothed, weights, grads, beta1)\n"
        "    torch._foreach_sub_(change, old)",
        FUNCTIONAL,
    ),
    _mutant("β2 is β1", "core/functional.py", "change, 1 - beta2)", "change, 1 - beta1)", FUNCTIONAL),
    _mutant(
        "sensitivity is |g| alone",
        "core/functional.py",
        "_foreach_mul(weights, grads)",
        "_foreach_mul(grads, 1)",
        FUNCTIONAL,
    ),
    _mutant(
        "score sums over k", "core/functional.py", 'importance["u"].mean(-1)', 'importance["u"].sum(-1)', FUNCTIONAL
    ),
    _mutant("full score not over k", "core/functional.py", ".unsqueeze(-1) / k", ".unsqueeze(-1)", FUNCTIONAL),
    _mutant(
        "ties in no order",
        "core/functional.py",
        "descending=True, stable=True",
        "descending=True, stable=False",
        FUNCTIONAL,
    ),
    _mutant(
        "NaN scores accepted",
        "core/allocator.py",
        "(~torch.isfinite(scores)).sum()",
        "torch.zeros_like(self._lost)",
        ALLOCATOR,
    ),
    # ---------------------------------------------------------------------------- lowrank_linear
    _mutant(
        "fused path forgets ΔW in grad x",
        "core/linear.py",
        "ctx.save_for_backward(x, weight, a, b, h)",
        "ctx.save_for_backward(x, weight - b.t().to(weight.dtype) @ a.to(weight.dtype) * fused, a, b, h)",
        LINEAR,
    ),
    _mutant(
        "plain path forgets ΔW in grad x",
        "core/linear.py",
        "grad_x.addmm_(grad_h.t(), a)",
        "grad_x.addmm_(0 * grad_h.t(), a)",
        LINEAR,
    ),
    _mutant(
        "fused forward forgets the bias",
        "core/linear.py",
        "F.linear(wide_x, weight, bias)",
        "F.linear(wide_x, weight)",
        LINEAR,
    ),
    _mutant("auto fuses in 16 bits", "core/linear.py", "x.dtype == torch.float32 and ", "", LINEAR),
    # ------------------------------------------------------------------------------------ layers
    _mutant(
        "Λ starts at one", "core/layers.py", "nn.Parameter(torch.zeros(n, r))", "nn.Parameter(torch.ones(n, r))", LAYERS
    ),
    _mutant("init ten times as wide", "core/layers.py", "INIT_STD = 0.02", "INIT_STD = 0.2", LAYERS),
    _mutant(
        "fold shared by passes with and without gradients",
        "core/layers.py",
        "key = (torch.is_grad_enabled(), dtype, joined)",
        "key = (True, dtype, joined)",
        LAYERS,
    ),
    _mutant(
        "fold kept after the pass",
        "core/inject.py",
        "model.register_forward_hook(adapter.end_forward, always_call=True)",
        "pass",
        LAYERS,
    ),
    _mutant(
        "fold kept after an error",
        "core/inject.py",
        "(adapter.end_forward, always_call=True)",
        "(adapter.end_forward)",
        LAYERS,
    ),
    _mutant("merge without ΔW", "core/layers.py", "(self.delta_weight() if", "(0 * self.delta_weight() if", LAYERS),
    _mutant(
        "merging twice adds twice",
        "core/layers.py",
        "        if self._original is None:\n            self._original",
        "        if True:\n            self._original",
        LAYERS,
    ),
    _mutant(
        "unmerge subtracts nothing",
        "core/layers.py",
        "self.weight, self._original = self._original[0], None",
        "self._original = None",
        LAYERS,
    ),
    _mutant(
        "joined layers exchange their outputs",
        "core/joint.py",
        "return self._outputs[place]",
        "return self._outputs[place - 1]",
        JOINT,
    ),
    _mutant(
        "joined layers answer for another tensor",
        "core/joint.py",
        "self._asked[0] is not x or ",
        "",
        JOINT,
    ),
    _mutant(
        "joined layers forget whether gradients are on",
        "core/joint.py",
        "self._asked[1:] != asked[1:]",
        "self._asked[1:2] != asked[1:2]",
        JOINT,
    ),
    _mutant(
        "a joint keeps its outputs after the attention",
        "core/joint.py",
        "self._open, self._asked, self._outputs = False, None, ()",
        "self._open = False",
        JOINT,
    ),
    _mutant(
        "a joint stays open after an error",
        "core/inject.py",
        "(joint.end, always_call=True)",
        "(joint.end)",
        JOINT,
    ),
    _mutant(
        "joined layers see each other's B",
        "core/functional.py",
        "torch.where(own, b.unsqueeze(3), 0)",
        "torch.where(own | True, b.unsqueeze(3), 0)",
        JOINT,
    ),
    _mutant(
        "layers of other shapes join",
        "core/inject.py",
        "    if not alike or",
        "    if",
        JOINT,
    ),
    _mutant(
        "merged layers join",
        "core/joint.py",
        " or any(layer.is_merged for layer in self._layers)",
        "",
        JOINT,
    ),
    _mutant(
        "gradients that are not neighbours are taken for such",
        "core/joint.py",
        "begin + place * o)",
        "part.storage_offset())",
        JOINT,
    ),
    _mutant(
        "gradients of other memory are taken for neighbours",
        "core/joint.py",
        "part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()",
        "True",
        JOINT,
    ),
    _mutant(
        "a stream for each run",
        "training/captured/capturer.py",
        "self._stream = _stream()",
        "self._stream = torch.cuda.Stream()",
        CAPTURED,
    ),
    _mutant(
        "torch compiles kernels where it can",
        "training/environment.py",
        "os.environ.update(SET)",
        "pass",
        "training/test_environment.py",
    ),
    _mutant(
        "a loss is added at every reading",
        "training/history.py",
        "        self._unread.clear()\n",
        "",
        "training/test_history.py",
    ),
    _mutant(
        "a checkpoint lacks the losses that were not read",
        "training/loop.py",
        "                    self._read(history, train_step, clock)\n                    self._save",
        "                    self._save",
        "training/test_history.py",
    ),
    _mutant(
        "logits are fetched batch by batch",
        "models/logits.py",
        "found.append(model(**inputs).logits.float())",
        "found.append(model(**inputs).logits.float().cpu())",
        "models/test_logits.py",
    ),
    _mutant(
        "nothing of the benchmark is deterministic",
        "experiments/bench/gpu.py",
        'deterministic=contender.step == "captured"',
        "deterministic=False",
        "experiments/test_bench.py",
    ),
    _mutant(
        "a record holds a number that JSON has not",
        "runs/record.py",
        "    json.dumps(values, allow_nan=False)\n",
        "",
        "runs/test_reader.py",
    ),
    _mutant("neighbouring gradients are copied", "core/joint.py", " if lie_so else", " if False else", JOINT),
    _mutant(
        "scores come from any kernel",
        "training/evaluate.py",
        "deterministic_algorithms(self.deterministic)",
        "deterministic_algorithms(False)",
        "training/test_step.py",
    ),
    _mutant(
        "the outputs of joined layers cannot be written to",
        "core/joint.py",
        "y.unsafe_split(",
        "y.split(",
        JOINT,
    ),
    _mutant(
        "a frozen copy of inference alone",
        "core/frozen.py",
        "with torch.inference_mode(False):",
        "if True:",
        JOINT,
    ),
    _mutant(
        "a frozen copy lets go of what it was made of",
        "core/frozen.py",
        "self._made = [*weights, *there], key",
        "self._made = [], key",
        JOINT,
    ),
    _mutant(
        "one infinite B makes its siblings undefined",
        "core/functional.py",
        "torch.where(own, b.unsqueeze(3), 0)",
        "(b.unsqueeze(3) * own)",
        JOINT,
    ),
    _mutant(
        "a product of DeBERTa's attention is not emulated",
        "core/bf16.py",
        "sum_, *factors = upcast_if_emulated(onto, a, b)",
        "sum_, *factors = onto, a, b",
        DEBERTA,
    ),
    _mutant("an emulated product is not kept", "core/bf16.py", "onto.copy_(sum_)", "pass", DEBERTA),
    _mutant(
        "a frozen copy that never follows",
        "core/frozen.py",
        "if self._made is None or self._made[1] != key:",
        "if self._made is None:",
        JOINT,
    ),
    # ----------------------------------------------------------------------------- DeBERTa's attention
    _mutant(
        "DeBERTa: positions to content untransposed",
        "models/deberta.py",
        "terms[1].add_(terms[0].mT)",
        "terms[1].add_(terms[0])",
        DEBERTA,
    ),
    _mutant("DeBERTa: the scale of one term less", "models/deberta.py", "(1 + len(TERMS", "(len(TERMS", DEBERTA),
    _mutant(
        "DeBERTa: a position too few",
        "models/deberta.py",
        "slice(first, first + p)",
        "slice(first + 1, first + p + 1)",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: shared positions are read back as if each occurred once",
        "models/deberta.py",
        " if once else None, nowhere)",
        ", nowhere)",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: no position is read back",
        "models/deberta.py",
        "place.masked_fill(nowhere, 0) if once else None",
        "None",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: padding is seen",
        "models/deberta.py",
        "masked_fill_(unseen, torch.finfo(scores.dtype).min)",
        "clone()",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: a gradient goes through what is not seen",
        "models/deberta.py",
        ".masked_fill_(unseen, 0).view(",
        ".view(",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: the gradients of queries and keys exchanged",
        "models/deberta.py",
        "(contents[1], contents[0], values)",
        "(contents[0], contents[1], values)",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: values of positions have a gradient",
        "models/deberta.py",
        "found[t:, 2].zero_()",
        "found[t:, 2].fill_(1.0)",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: the gradient of positions is not scaled",
        "models/deberta.py",
        "every.mT, contents.flatten(0, 1), beta=0, alpha=ctx.scale)",
        "every.mT, contents.flatten(0, 1), beta=0)",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: the gradient of what no query meets",
        "models/deberta.py",
        "found.masked_fill_(where.nowhere.unsqueeze(1), 0)",
        "found",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: no dropout of positions",
        "models/deberta.py",
        "self.pos_dropout(rel_embeddings[relative_pos.used])",
        "rel_embeddings[relative_pos.used]",
        DEBERTA,
    ),
    _mutant(
        "DeBERTa: positions made in every pass", "models/deberta.py", "if key not in self._made:", "if True:", DEBERTA
    ),
    _mutant(
        "every layer reads the first slice",
        "core/layers.py",
        "self.stack.low_rank(self.index, dtype, joined=joined)",
        "self.stack.low_rank(0, dtype, joined=joined)",
        LAYERS,
    ),
    # ------------------------------------------------------------------------------------ inject
    _mutant("alpha not divided by r", "core/inject.py", "self.alpha / self.r", "self.alpha", INJECT),
    _mutant(
        "backbone not frozen", "core/inject.py", "model.requires_grad_(False)", "model.requires_grad_(True)", INJECT
    ),
    _mutant(
        "every layer folds for itself",
        "core/inject.py",
        "model.register_forward_pre_hook(adapter.begin_forward)",
        "pass",
        LAYERS,
    ),
    _mutant(
        "norm not averaged over both Grams",
        "core/adapter.py",
        "value / (2 * len(self.layers) * len(found))",
        "value / (len(self.layers) * len(found))",
        INJECT,
    ),
    _mutant(
        "a layer whose shapes do not fit is taken for an encoder's",
        "core/targets.py",
        "return widths == {hidden} and first.out_features == second.in_features",
        "return True",
        "core/test_architectures.py",
    ),
    _mutant(
        "a layer without the wanted matrix is passed over",
        "core/targets.py",
        "if len(found) < len(layers):",
        "if not found:",
        "core/test_architectures.py",
    ),
    _mutant(
        "the head stays as random as it starts",
        "core/inject.py",
        "parameter.requires_grad_(train_head)",
        "parameter.requires_grad_(False)",
        "core/test_architectures.py",
    ),
    # ---------------------------------------------------------------------------------- allocator
    _mutant(
        "importance goes on in the last phase",
        "core/allocator.py",
        "if step >= self.schedule.final or not names:",
        "if not names:",
        ALLOCATOR,
    ),
    _mutant(
        "pattern not applied in the last phase",
        "core/allocator.py",
        "if self.schedule.updates_mask(step) or step > self.schedule.final:",
        "if self.schedule.updates_mask(step):",
        ALLOCATOR,
    ),
    _mutant(
        "mask inverted",
        "core/allocator.py",
        "lost = ~self._rows()",
        "lost = self._rows()",
        ALLOCATOR,
    ),
    _mutant(
        "what is kept is compared by its number",
        "analysis/study/further.py",
        'mine == "1"',
        'one.masks[name].count("1") == mask.count("1")',
        "analysis/study/test_further.py",
    ),
    _mutant(
        "scores in the order of the stacks",
        "core/allocator.py",
        "torch.cat(rows)[self._order]",
        "torch.cat(rows)",
        ALLOCATOR,
    ),
    _mutant(
        "mask in the order of the stacks",
        "core/allocator.py",
        "self._rows()[self._positions]",
        "self._rows()",
        ALLOCATOR,
    ),
    _mutant(
        "state without the mask", "core/allocator.py", 'return state | {"keep": self.keep}', "return state", ALLOCATOR
    ),
    _mutant(
        "final budget not asserted",
        "core/allocator.py",
        "if kept != self.schedule.target or alive > kept:",
        "if False:",
        ALLOCATOR,
    ),
    _mutant(
        "missing gradients ignored",
        "core/allocator.py",
        "    if grad is None:\n        raise RuntimeError(",
        "    if grad is None:\n        return torch.zeros(())\n        raise RuntimeError(",
        ALLOCATOR,
    ),
    # ------------------------------------------------------------------------------------- budget
    _mutant("square instead of cube", "core/budget.py", "remaining**3", "remaining**2", BUDGET),
    _mutant(
        "final step off by one",
        "core/budget.py",
        "return self.total - self.t_f",
        "return self.total - self.t_f + 1",
        BUDGET,
    ),
    _mutant(
        "no mask at the final step", "core/budget.py", "return step == self.final or (", "return False or (", BUDGET
    ),
    _mutant(
        "schedules that fill the run fit",
        "core/budget.py",
        "t_i + t_f < total\n\n\ndef",
        "t_i + t_f <= total\n\n\ndef",
        BUDGET,
    ),
    _mutant("printed is released", "core/budget.py", 'self.t_f if self.kind == "printed" else 0', "0", BUDGET),
    # ------------------------------------------------------------------------------------ trainer
    _mutant("loss averaged over the micro-batch", "training/step.py", " / batch_size\n", " / len(logits)\n", TRAINER),
    _mutant(
        "regularisers not trained",
        "training/step.py",
        "self.accelerator.backward(torch.stack(list(penalties.values())).sum())",
        "pass",
        TRAINER,
    ),
    _mutant(
        "importance after the optimizer step",
        "models/methods/lora2.py",
        "            self.allocator.observe(step)\n        yield\n",
        "            pass\n        yield\n        if self.allocator is not None and grads_finite:\n"
        "            self.allocator.observe(step)\n",
        TRAINER,
    ),
    _mutant(
        "Λ's learning rate not scaled",
        "models/methods/lora2.py",
        "ParameterGroup(singular, method.lam_lr_scale)",
        "ParameterGroup(singular)",
        TRAINER,
    ),
    _mutant(
        "gradients not cleared",
        "training/step.py",
        "        self.optimizer.zero_grad()\n",
        "        pass\n",
        TRAINER,
    ),
    _mutant("biases decay", "training/optim.py", 'x.endswith("bias") or', "False or", TRAINER),
    _mutant(
        "best is the last of equals",
        "training/loop.py",
        "or selection > state.best_selection:",
        "or selection >= state.best_selection:",
        TRAINER,
    ),
    _mutant(
        "pruned matrices counted as active",
        "models/methods/lora2.py",
        "for name, rank in kept.items() if rank)",
        "for name, rank in kept.items())",
        TRAINER,
    ),
    _mutant(
        "a process that fails alone is silent when an earlier run left a record",
        "training/session.py",
        "if _content(path) != earlier:",
        "if path.exists():",
        "training/test_session.py",
    ),
    _mutant(
        "logits in the order of the batches",
        "models/logits.py",
        "return logits[np.argsort(order)]",
        "return logits",
        "models/test_logits.py",
    ),
    _mutant(
        "a cast copy dropped by a merge",
        "core/layers.py",
        "self.weight, self._original = self._original[0], None",
        "self.weight, self._original, self._cast = self._original[0], None, FrozenCopy()",
        CAPTURED,
    ),
    _mutant(
        "every step reads whether its scores are finite",
        "core/allocator.py",
        'if scores.device.type == "cpu":',
        "if True:",
        ALLOCATOR,
    ),
    _mutant(
        "a captured step adds to the gradients of the one before",
        "training/captured/step.py",
        "        self._eager.optimizer.zero_grad(set_to_none=False)\n",
        "",
        CAPTURED,
    ),
    _mutant(
        "a captured step trains on the batch it was captured with",
        "training/captured/step.py",
        "            tensor.copy_(part.tensors[name])\n",
        "            pass\n",
        CAPTURED,
    ),
    _mutant(
        "the gradients of a captured step move",
        "training/captured/step.py",
        "zero_grad(set_to_none=False)",
        "zero_grad(set_to_none=True)",
        CAPTURED,
    ),
    _mutant(
        "a graph serves micro-batches of another share",
        "training/captured/step.py",
        "key = ((rows, width), part.weight, batch_size)",
        "key = ((rows, width), part.weight, 0)",
        CAPTURED,
    ),
    _mutant(
        "captured gradients are those of the last micro-batch",
        "training/captured/step.py",
        "            loss += self._part(",
        "            self._eager.optimizer.zero_grad(set_to_none=False)\n            loss += self._part(",
        CAPTURED,
    ),
    _mutant(
        "the shape that was used last goes",
        "training/captured/step.py",
        "        self._captured.move_to_end(key)\n",
        "",
        CAPTURED,
    ),
    _mutant("graphs outlive their run", "training/loop.py", "with closing(train_step), ", "with ", CAPTURED),
    _mutant(
        "a look does not forget the steps that were in order",
        "training/finite.py",
        "        self._passed.clear()\n",
        "        pass\n",
        CAPTURED,
    ),
    _mutant(
        "a run is evaluated before it is looked at",
        "training/loop.py",
        "        history.read()\n        train_step.look()\n",
        "        history.read()\n",
        CAPTURED,
    ),
    _mutant(
        "positions of padding to a multiple are not counted",
        "training/loop.py",
        "                    pad_to_multiple=multiple,\n",
        "",
        CAPTURED,
    ),
    _mutant(
        "a width beyond what the model takes",
        "glue/batches.py",
        "max(width, min(rounded, at_most))",
        "rounded",
        "glue/test_glue_batches.py",
    ),
    _mutant(
        "a device's seconds are counted twice",
        "training/clock.py",
        "        self._marks = [(None, last)]\n",
        "",
        "training/test_step.py",
    ),
    _mutant(
        "dev scores of another model than the trained one",
        "training/evaluate.py",
        'if accelerator.mixed_precision == "no" else',
        "if True else",
        "training/test_forms.py",
    ),
    _mutant(
        "forms compared in 16 bits",
        "training/session.py",
        "keep_fp32_wrapper=False",
        "keep_fp32_wrapper=True",
        "training/test_forms.py",
    ),
    _mutant(
        "phases run into each other",
        "training/clock.py",
        "        self._last = now\n",
        "",
        "training/test_step.py",
    ),
    # ------------------------------------------------------------------- transformers' Trainer, export
    _mutant(
        "micro-batches' mean losses are added up",
        "core/hf.py",
        "loss = loss * (items / (items if total is None else total))",
        "pass",
        LIBRARY,
    ),
    _mutant(
        "micro-batches weigh alike whatever their size",
        "core/hf.py",
        "loss = loss * (items / (items if total is None else total))",
        "loss = loss / self.current_gradient_accumulation_steps",
        LIBRARY,
    ),
    _mutant(
        "a micro-batch's loss is told the whole step's items",
        "core/hf.py",
        "None if num_items_in_batch is None else items\n",
        "num_items_in_batch\n",
        LIBRARY,
    ),
    _mutant(
        "the Trainer divides once more", "core/hf.py", "self.current_gradient_accumulation_steps = 1", "pass", LIBRARY
    ),
    _mutant(
        "the budget is checked after other weights were loaded",
        "core/hf.py",
        "def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any)",
        "def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any)",
        LIBRARY,
    ),
    _mutant(
        "the export writes patterns that are PEFT's default",
        "core/peft_format.py",
        "    if others:\n",
        "    if True:\n",
        "runs/test_export.py",
    ),
    _mutant(
        "the export names the hub's model whatever it was trained from",
        "models/weights.py",
        "return cfg.hub_id is not None and cfg.path is None and",
        "return cfg.hub_id is not None and",
        "runs/test_export.py",
    ),
    # --------------------------------------------------------------------------------- AdaLoRA on the stacks
    _mutant(
        "AdaLoRA's scale is alpha / r",
        "models/methods/adalora.py",
        "RANK_GUARD = 1e-5 ",
        "RANK_GUARD = 0.0 ",
        ADALORA_EQUAL,
    ),
    _mutant(
        "AdaLoRA's scale is 1",
        "models/methods/adalora.py",
        "rank.alpha * rank.r / (rank.r + RANK_GUARD)",
        "float(rank.r)",
        REFERENCES,
    ),
    _mutant(
        "AdaLoRA learns at another rate",
        "models/methods/adalora.py",
        "[ParameterGroup(self._factors), ",
        "[ParameterGroup(self._factors, 2.0), ",
        REFERENCES,
    ),
    _mutant(
        "AdaLoRA does not decay",
        "models/methods/adalora.py",
        "[ParameterGroup(self._factors), ",
        "[ParameterGroup(self._factors, decays=False), ",
        REFERENCES,
    ),
    _mutant(
        "AdaLoRA's β1 is β2",
        "models/methods/parts.py",
        "beta1=budget.beta1",
        "beta1=budget.beta2",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's β2 is β1",
        "models/methods/parts.py",
        "beta2=budget.beta2",
        "beta2=budget.beta1",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's norm is squared",
        "models/methods/adalora.py",
        '{"PQ"}), "norm")',
        '{"PQ"}), "squared")',
        ADALORA,
    ),
    _mutant(
        "AdaLoRA reads the importance before the optimizer's step",
        "models/methods/adalora.py",
        "        yield\n        if self.allocator is not None and grads_finite:\n",
        "        if self.allocator:\n            self.allocator.observe(step)\n        yield\n        if False:\n",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's score lacks the mean over P",
        "core/functional.py",
        'importance["lam"] + importance["u"].mean(-1) + ',
        'importance["lam"] + ',
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's score lacks the mean over Q",
        "core/functional.py",
        ' + importance["U"].mean(-1)  # (n, r)',
        "  # (n, r)",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA keeps what equals the threshold",
        "core/functional.py",
        "return scores > torch.sort(scores)",
        "return scores >= torch.sort(scores)",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA's threshold is the next score",
        "core/functional.py",
        ".values[pruned - 1]",
        ".values[pruned]",
        ADALORA,
    ),
    _mutant(
        "AdaLoRA of equal scores keeps the first",
        "models/methods/adalora.py",
        "choose=above_threshold_mask",
        "",
        ADALORA_EQUAL,
    ),
    _mutant(
        "one scale forgets Λ in the fold",
        "core/functional.py",
        "(scale * f.lam).unsqueeze(-1) * f.U  # (n, r, d)",
        "scale * f.U  # (n, r, d)",
        ADALORA,
    ),
    _mutant(
        "PEFT's AdaLoRA gets another name",
        "config/identity.py",
        '"impl") == "peft"',
        '"impl") == "none"',
        "config/test_config.py",
    ),
    _mutant(
        "our AdaLoRA's timing stands in the stock one's row",
        "analysis/tables/cells.py",
        'run.status == "timed" and method.get("impl") == "stacked"',
        'method.get("impl") == "none"',
        "analysis/test_tables.py",
    ),
    *BASELINES,
    # ----------------------------------------------------------------------------- what a run starts from
    _mutant(
        "a foreign head is kept",
        "models/backbone.py",
        "or trained_labels(config, source) is None:",
        "or True:",
        "models/test_head.py",
    ),
    _mutant(
        "keep_head is ignored",
        "models/head.py",
        "    if not cfg.keep_head:\n        return False\n",
        "    return False\n",
        "models/test_head.py",
    ),
    _mutant(
        "a head is found by the names of BERT's and RoBERTa's",
        "models/head.py",
        "if p.shape[0] == UNUSUAL}",
        "if name.startswith('classifier.')}",
        "models/test_head.py",
    ),
    _mutant(
        "a head of another size is kept",
        "models/head.py",
        "if stored != num_labels:",
        "if stored is None:",
        "models/test_head.py",
    ),
    _mutant(
        "the problem type of another task is kept",
        "models/backbone.py",
        "config.problem_type = None",
        "pass",
        "models/test_head.py",
    ),
    _mutant(
        "the head is taken from init_from too",
        "config/initial.py",
        'return name.startswith("lora2.") or ".lora_" in name',
        "return bool(name)",
        "runs/test_initial.py",
    ),
    _mutant(
        "init_from starts from nothing",
        "training/build.py",
        "    if cfg.init_from is not None:\n",
        "    if False:\n",
        "runs/test_initial.py",
    ),
    _mutant(
        "the adapter's numbers do not name the run",
        "config/initial.py",
        "        digest.update(tensors[name].tobytes())\n",
        "",
        "runs/test_initial.py",
    ),
    _mutant(
        "init_from takes another backbone",
        "runs/restore.py",
        "if weights_hash(model, frozen) != source.frozen_weights:",
        "if False:",
        "runs/test_initial.py",
    ),
    _mutant("init_from takes another alpha", "runs/initial.py", '    "rank.alpha",\n', "", "runs/test_initial.py"),
    _mutant(
        "unused init_from is part of a run's name",
        "config/identity.py",
        '        del settings["init_from"]\n',
        '        settings["init_from"] = "none"\n',
        "runs/test_initial.py",
    ),
    _mutant(
        "unused keep_head is part of a run's name",
        "config/identity.py",
        '        del settings["model"]["keep_head"]\n',
        "        pass\n",
        "runs/test_initial.py",
    ),
    # ------------------------------------------------------------------------- batches and metrics
    _mutant(
        "the short last batch is dropped",
        "glue/batches.py",
        "range(0, len(order), size)]",
        "range(0, len(order) - size + 1, size)]",
        "glue/test_glue_batches.py",
    ),
    _mutant(
        "one order for all epochs",
        "glue/batches.py",
        "np.random.default_rng([seed, epoch])",
        "np.random.default_rng([seed])",
        "glue/test_glue_batches.py",
    ),
    _mutant(
        "processes share examples",
        "glue/batches.py",
        "parts[micro * world + rank] for",
        "parts[micro * world] for",
        "glue/test_glue_batches.py",
    ),
    _mutant(
        "padding is attended to",
        "glue/collate.py",
        "torch.from_numpy(mask.astype(np.int64))",
        "torch.ones(mask.shape, dtype=torch.int64)",
        "glue/test_glue_batches.py",
    ),
    _mutant("F1 of class 0", "glue/metrics.py", "pos_label=1", "pos_label=0", "glue/test_glue_metrics.py"),
    _mutant(
        "Spearman is Pearson",
        "glue/metrics.py",
        "_correlation(spearmanr,",
        "_correlation(pearsonr,",
        "glue/test_glue_metrics.py",
    ),
    _mutant(
        "mismatched is matched",
        "glue/metrics.py",
        '{f"{key}_mm": value for scores in mismatched for',
        '{f"{key}_mm": value for scores in [matched] * len(mismatched) for',
        "glue/test_glue_metrics.py",
    ),
    # --------------------------------------------------------------------------------------- stats
    _mutant(
        "population standard deviation",
        "analysis/stats.py",
        "std = float(array.std(ddof=1))",
        "std = float(array.std(ddof=0))",
        "analysis/test_stats.py",
    ),
    _mutant(
        "bootstrap ignores its seed",
        "analysis/comparison.py",
        "np.random.default_rng(seed)",
        "np.random.default_rng()",
        "analysis/test_comparison.py",
    ),
    _mutant(
        "an interval of one side",
        "analysis/stats.py",
        "(1.0 + level) / 2.0",
        "level",
        "analysis/test_stats.py",
        "analysis/test_coverage.py",
    ),
    _mutant(
        "the normal interval for Student's",
        "analysis/stats.py",
        "t_quantile(array.size - 1, level)",
        "t_quantile(1e9, level)",
        "analysis/test_coverage.py",
    ),
    _mutant(
        "freedom of all tasks added up",
        "analysis/comparison.py",
        "freedom = total**2 / float((parts**2 / (counts - 1.0)).sum())",
        "freedom = float((counts - 1.0).sum())",
        "analysis/test_comparison.py",
    ),
    _mutant(
        "seeds drawn over all tasks",
        "analysis/comparison.py",
        "array = finite(values)\n        draws",
        "array = finite([value for part in strata for value in part])\n        draws",
        "analysis/test_comparison.py",
    ),
    _mutant(
        "equals count as better",
        "analysis/comparison.py",
        "(x > y) + 0.5 * (x == y)",
        "x >= y",
        "analysis/test_comparison.py",
    ),
    _mutant(
        "a printed margin below zero not turned",
        "analysis/comparison.py",
        "else (-mean, -margin)",
        "else (mean, margin)",
        "analysis/test_comparison.py",
    ),
    _mutant(
        "any lead supports a margin",
        "analysis/comparison.py",
        "if mean + half < printed:",
        "if mean + half < 0.0:",
        "analysis/test_comparison.py",
    ),
    _mutant(
        "seeds enough to exclude zero alone",
        "analysis/comparison.py",
        "distance = max(mean, printed - mean)",
        "distance = mean",
        "analysis/test_comparison.py",
    ),
    _mutant(
        "collapsed runs left out of the study",
        "analysis/study/gather.py",
        "not set(run.caveats) <= set(FALLEN)",
        "bool(run.caveats)",
        "analysis/study/test_gather.py",
    ),
    _mutant(
        "trials scored on dev",
        "analysis/study/gather.py",
        'run.resolved.get("selection") == "heldout"',
        'run.resolved.get("selection") != "test"',
        "analysis/study/test_gather.py",
    ),
    _mutant(
        "pairs not by seed",
        "analysis/study/pairs.py",
        "for seed in sorted(left.keys() & right.keys())]",
        "for seed in sorted(left.keys() & right.keys(), reverse=True)]",
        "analysis/study/test_gather.py",
    ),
    _mutant(
        "above is below",
        "analysis/stats.py",
        'return "above" if low > paper_value',
        'return "above" if low <= paper_value',
        "analysis/test_stats.py",
    ),
    _mutant(
        "tied ranks not shared",
        "analysis/stats.py",
        "last - (counts - 1) / 2.0",
        "last - (counts - 1)",
        "analysis/test_stats.py",
    ),
    # ------------------------------------------------------------------------------------- records
    _mutant(
        "a metric that is not a number is shown",
        "runs/reader.py",
        "        if not math.isfinite(value):\n",
        "        if False:\n",
        "runs/test_reader.py",
    ),
    _mutant(
        "evaluation's seconds counted as training's",
        "runs/reader.py",
        'train_s=seconds["train_s"]',
        'train_s=seconds["eval_s"]',
        "runs/test_reader.py",
    ),
    _mutant(
        "marked runs stand before clean ones when they have more seeds",
        "runs/cells.py",
        "return bool(cell.caveats), bool(first.caveats), -len(cell.runs),",
        "return False, False, -len(cell.runs),",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "marked runs are averaged with clean ones",
        "runs/cells.py",
        "groups.setdefault((run.caveats, run.setting_id), {})",
        "groups.setdefault(((), run.setting_id), {})",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "a verdict on a marked number",
        "analysis/tables/cells.py",
        "return NO_VERDICT if row[task].caveats else verdict(values, printed)",
        "return verdict(values, printed)",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "an average of clean numbers and marked ones",
        "analysis/tables/cells.py",
        "if task in row}) > 1:",
        "if task in row}) > 99:",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "runs of other versions are as good as any",
        "runs/reader.py",
        "if _versions(run) == usual[run.setting_id, run.status]",
        "if True",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "a curve's line does not say what is wrong with its run",
        "analysis/html/curves.py",
        'named(", ".join(parts), run.caveats)',
        '", ".join(parts)',
        "analysis/test_caveats.py",
    ),
    _mutant(
        "what lies behind counts as ahead in the page's first sentence",
        "analysis/html/answer.py",
        "sum(low > 0.0 for low, _ in judged)",
        "sum(high < 0.0 for _, high in judged)",
        "analysis/test_report_answer.py",
    ),
    _mutant(
        "a run of one epoch is drawn as a learning curve",
        "analysis/html/curves.py",
        "run.recipe != RECIPE and not _is_short(run) and",
        "run.recipe != RECIPE and",
        "analysis/test_report_answer.py",
    ),
    _mutant(
        "what is switched off looks like the whole method",
        "analysis/methods.py",
        "SWITCHED_OFF.get(switched, PLUS) if switched else",
        "",
        "analysis/test_methods.py",
    ),
    _mutant(
        "an older record's data is official whatever its notes say",
        "runs/caveats.py",
        "any(OTHER_ROWS in str(note)",
        "any(False",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "a dead model's score is a result like any other",
        "training/evaluate.py",
        "float(np.ptp(predictions)) < SAME_SCORE",
        "False",
        "training/test_session.py",
    ),
    _mutant(
        "a shortened run is a whole one",
        "training/session.py",
        'known["caveats"].append("shortened")',
        "pass",
        "training/test_session.py",
    ),
    _mutant(
        "a resumed run's tracker is not given what it lost",
        "training/session.py",
        'tracking.replay(found.state["train_state"]["history"])',
        "pass",
        "training/test_tracking.py",
    ),
    _mutant(
        "a resumed run's tracker is told twice what it has",
        "training/tracking/tracker.py",
        "self._held = held(cfg, run_id)",
        "self._held = {}",
        "training/test_tracking.py",
    ),
    # -------------------------------------------------------------------------------- verification
    _mutant(
        "the process outside may import lora2",
        "runs/verify/outside.py",
        "sys.meta_path.insert(0, Refusal())",
        "Refusal()",
        VERIFY,
    ),
    _mutant(
        "None is no text to stock readers",
        "runs/verify/outside.py",
        "keep_default_na=False",
        "keep_default_na=True",
        VERIFY,
    ),
    _mutant(
        "other weights are verified",
        "runs/verify/compare.py",
        "if not difference <= FLOAT32:",
        "if False:",
        COMPARE,
    ),
    _mutant(
        "one metric that is explained excuses the others",
        "runs/verify/compare.py",
        "np.logical_and.reduce(",
        "np.logical_or.reduce(",
        COMPARE,
    ),
    _mutant(
        "every example is a tie",
        "runs/verify/compare.py",
        "tied.sum(axis=1) == 1  # (n,)",
        "tied.sum(axis=1) < 0  # (n,)",
        COMPARE,
    ),
    _mutant(
        "a failed verification is no caveat",
        "runs/caveats.py",
        'not _part(data, "verified").get("passed", True)',
        "False",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "AdaLoRA is exported without its division",
        "runs/export/pairs.py",
        " / (float(layer.ranknum[ADAPTER]) + 1e-5)",
        "",
        VERIFY,
    ),
    _mutant(
        "SoRA is exported with open gates",
        "runs/export/pairs.py",
        "b[:, kept].double() * gate[kept].double()",
        "b[:, kept].double()",
        VERIFY,
    ),
    # -------------------------------------------------------------------------------------- config
    _mutant(
        "the seed is part of a setting's name",
        "config/identity.py",
        '(*IDENTITY_FREE, "seed")',
        "IDENTITY_FREE",
        "config/test_config.py",
    ),
    _mutant(
        "the data is not part of a run's name",
        "config/identity.py",
        '{"fingerprint": data_fingerprint}',
        "{}",
        "config/test_config.py",
    ),
    _mutant(
        "a recipe overrides the user",
        "config/resolve.py",
        "if value_at(draft.tree, path) is None and not (",
        "if not (",
        "config/test_config.py",
    ),
    # ------------------------------------------------------------ issue 14: command lines, sweeps, places, the shell
    _mutant(
        "a path is left to the grammar",
        "config/overrides.py",
        "    if os.path.exists(text):",
        "    if False:",
        "config/test_overrides.py",
    ),
    _mutant(
        "a dollar sign in a path is an interpolation",
        "config/overrides.py",
        "{found[1] * 2}",
        "{found[1]}",
        "config/test_overrides.py",
    ),
    _mutant(
        "the folder of an adapter is left to the grammar",
        "config/overrides.py",
        '"model.path", "init_from")',
        '"model.path")',
        "config/test_overrides.py",
    ),
    _mutant(
        "sizes that the weights' own file says are taken without a word",
        "config/unused.py",
        "reasons |= dict.fromkeys(sizes,",
        "reasons |= dict.fromkeys([],",
        "config/test_unused.py",
    ),
    _mutant(
        "a sweep of no job is no mistake",
        "config/grid.py",
        "if not setting.words:",
        "if False:",
        "config/test_grid.py",
    ),
    _mutant(
        "refused jobs are started",
        "experiments/sweep.py",
        "if told := refusals(statuses):",
        "if not (told := refusals(statuses)) and told:",
        "experiments/test_sweep.py",
    ),
    _mutant(
        "a run that fails keeps its process",
        "experiments/worker.py",
        "if ended.code not in HARMLESS:",
        "if False:",
        "experiments/test_worker.py",
    ),
    _mutant(
        "cycles of a run stay in memory",
        "training/memory.py",
        "    gc.collect()",
        "    gc.isenabled()",
        "experiments/test_worker.py",
    ),
    _mutant(
        "LoRA² searches more than others",
        "experiments/tune.py",
        "grid[1::2]",
        "grid",
        "experiments/test_tune.py",
    ),
    _mutant(
        "trials see dev",
        "experiments/tune.py",
        '"selection=heldout"',
        '"selection=dev"',
        "experiments/test_tune.py",
    ),
    _mutant(
        "a third seed decides",
        "experiments/tune.py",
        "runs[: len(SEEDS)])))",
        "runs)))",
        "experiments/test_tune.py",
    ),
    _mutant(
        "both comparisons of a study in one line of its table",
        "experiments/study.py",
        'f"recipe.name=choice({RECIPE})"',
        'f"recipe.name={RECIPE}"',
        "end_to_end/test_study.py",
    ),
    _mutant(
        "a seed of the trials is used again",
        "experiments/study.py",
        "if used := set(seeds) & set(found.seeds):",
        "if (used := set(seeds) & set(found.seeds)) and not used:",
        "experiments/test_tune.py",
    ),
    _mutant(
        "magnitude with its sign",
        "core/allocator.py",
        "return stack.lam.detach().abs().float()",
        "return stack.lam.detach().float()",
        ALLOCATOR,
    ),
    _mutant(
        "weights at hand are not looked at before a sweep",
        "experiments/refusals.py",
        "            _check_weights(cfg)",
        "            pass",
        "experiments/test_sweep.py",
    ),
    _mutant(
        "a shortened run is published",
        "analysis/published.py",
        "PUBLISHED_WITH = {*FALLEN, ",
        'PUBLISHED_WITH = {"shortened", *FALLEN, ',
        "analysis/test_published.py",
    ),
    _mutant(
        "trials that diverged are not published",
        "analysis/published.py",
        'run.status not in RESULTS and "diverged" not in run.caveats',
        "run.status not in RESULTS",
        "analysis/test_published.py",
    ),
    _mutant(
        "what diverged is done again and again",
        "experiments/status.py",
        'lost = [run for run in runs if "diverged" in run.caveats]',
        "lost = []",
        "experiments/test_sweep.py",
    ),
    _mutant(
        "a verdict on the seeds that did not diverge",
        "analysis/study/pairs.py",
        'return "seeds diverged" if self.diverged else margin_verdict',
        "return margin_verdict",
        "analysis/study/test_diverged.py",
    ),
    _mutant(
        "seeds that diverged are out of reach",
        "analysis/study/tables.py",
        "MISSING if found is None or pair.diverged else",
        "MISSING if found is None else",
        "analysis/study/test_diverged.py",
    ),
    _mutant(
        "a task where one side always diverged is left out where only the order counts",
        "analysis/study/pairs.py",
        "ours, theirs = zip(*self.cells.values(), strict=True)",
        "ours, theirs = zip(*(self.cells[task] for task in self.differences), strict=True)",
        "analysis/study/test_diverged.py",
    ),
    _mutant(
        "methods that share no seed since runs diverged have not run",
        "analysis/study/pairs.py",
        "return pair if pair.differences or pair.lost else None",
        "return pair if pair.differences else None",
        "analysis/study/test_diverged.py",
    ),
    _mutant(
        "a run that diverged is missing where only the order counts",
        "analysis/study/gather.py",
        "return [*self.scores(), *(-math.inf for _ in self.diverged)]",
        "return self.scores()",
        "analysis/study/test_diverged.py",
    ),
    _mutant(
        "a run that diverged is no run of its cell",
        "analysis/study/gather.py",
        """return "diverged" in run.caveats or (run.status""",
        """return False or (run.status""",
        "analysis/study/test_diverged.py",
    ),
    _mutant(
        "what the study ran for an experiment is missing beside it",
        "analysis/study/further.py",
        "cells = _cells([*tried, *plain])",
        "cells = _cells(tried)",
        "analysis/study/test_further.py",
    ),
    _mutant(
        "k and start of the factors changed in one difference",
        "analysis/study/further.py",
        "if row[1] == recipe and WIDTH.fullmatch(variant) else []",
        "if WIDTH.fullmatch(variant) else []",
        "analysis/study/test_further.py",
    ),
    _mutant(
        "the k that a difference is to is not named",
        "analysis/study/further.py",
        "if plain and all(gaps) and not _same_k(row, plain) else",
        "if plain and False else",
        "analysis/study/test_further.py",
    ),
    _mutant(
        "a run's own clock beside its score",
        "analysis/study/further.py",
        'f"{fallen} of {len(runs)}",',
        'f"{fallen} of {len(runs)}; {runs[0].seconds_per_step} s",',
        "analysis/study/test_further.py",
    ),
    _mutant(
        "both starts in one mean",
        "analysis/study/further.py",
        "not run.recipe.endswith(tuple(others))",
        "True",
        "analysis/study/test_further.py",
    ),
    _mutant(
        "a timing of random weights is published",
        "analysis/published.py",
        '["random weights"] if run.model_random_init else []',
        "[]",
        "analysis/test_published.py",
    ),
    _mutant(
        "fewer epochs than the recipe's are no shortening",
        "config/deviations.py",
        "and done < said",
        "and done < 0",
        "config/test_deviations.py",
    ),
    _mutant(
        "a changed recipe goes by its name",
        "training/recording.py",
        '"recipe changed": len(deviations) > shortened',
        '"recipe changed": len(deviations) > 99',
        "training/test_session.py",
    ),
    _mutant(
        "what a recipe's rows say may be changed",
        "config/deviations.py",
        "    said |= {path: value for path, (value, _) in recipe_rows(recipe, cfg.task, method).items()}\n",
        "",
        "config/test_deviations.py",
    ),
    _mutant(
        "a published run is displaced by one's own",
        "runs/places.py",
        "found = {run.run_id: run for run in runs} | found",
        "found = found | {run.run_id: run for run in runs}",
        "analysis/test_published.py",
    ),
    _mutant(
        "variables of the shell are heeded",
        "training/environment.py",
        "value = os.environ.pop(name)",
        "value = os.environ[name]",
        "training/test_environment.py",
    ),
    _mutant(
        "a replaced setting is not told",
        "config/unused.py",
        "replaced = None if final in (None, COMMAND_LINE) else final",
        "replaced = None",
        "config/test_unused.py",
    ),
    _mutant(
        "a limit beyond the last epoch is not told",
        "config/schedule.py",
        "recipe.max_steps <= total",
        "recipe.max_steps > 0",
        "config/test_unused.py",
    ),
    _mutant(
        "versions are compared in each folder alone",
        "runs/places.py",
        "return mark_other_versions([found[name] for name in sorted(found)]), warnings",
        "return [found[name] for name in sorted(found)], warnings",
        "analysis/test_caveats.py",
    ),
    _mutant(
        "pandas guesses what a column holds",
        "glue/own.py",
        'options = options | {"converters": dict.fromkeys(wanted, str)}',
        "pass",
        "glue/test_own.py",
    ),
    _mutant(
        "1.0 is another class than 1",
        "glue/own.py",
        "[class_name(label) for label in labels]",
        "list(labels)",
        "glue/test_own.py",
    ),
    _mutant(
        "an experiment's name hides what was changed",
        "config/deviations.py",
        '    if experiment not in options("experiment", configs):',
        "    if True:",
        "config/test_deviations.py",
    ),
    _mutant(
        "what has no effect is a change",
        "config/deviations.py",
        " | without_effect(cfg).keys()",
        "",
        "config/test_deviations.py",
    ),
    _mutant(
        "only the first record tells what is not heeded",
        "experiments/worker.py",
        "run_here(json.loads(line), configs, export, forgotten)",
        "run_here(json.loads(line), configs, export)",
        "experiments/test_worker.py",
    ),
    _mutant(
        "the first of two columns of a name is taken",
        "glue/tsv.py",
        "if count > 1]:",
        "if count > 2]:",
        "glue/test_glue_local.py",
    ),
    _mutant(
        "any third column passes for CoLA's mark",
        "glue/local.py",
        "if not _MARK.fullmatch(mark)",
        "if False",
        "glue/test_glue_local.py",
    ),
    _mutant(
        "a dry run reads a seed from its digits",
        "config/grid.py",
        "return type(value) is int and 0 <= value < SEEDS",
        "return type(value) is int and 0 < value < 2",
        "config/test_overrides.py",
    ),
    _mutant(
        "a run of another model stands for the demo's",
        "analysis/demo.py",
        "    done = [run for run in done if run.model == model]\n",
        "",
        "analysis/test_demo_story.py",
    ),
    _mutant(
        "the demo's bars have no mark",
        "analysis/demo.py",
        'if kind != "synthetic"]',
        "if False]",
        "analysis/test_demo_story.py",
    ),
    _mutant(
        "a published folder takes runs",
        "config/checks.py",
        '_exists(str(Path(values["results_dir"], "paper")), Path.is_dir)',
        "False",
        "config/test_config.py",
    ),
    _mutant(
        "a choice may be null",
        "config/overrides.py",
        'kind == "change" and isinstance(value, str)',
        'kind == "change"',
        "config/test_overrides.py",
    ),
    _mutant(
        "a plus sign changes what is there",
        "config/compose.py",
        'if setting.kind == "add" and has_value(composed, setting.key):',
        "if False:",
        "config/test_overrides.py",
    ),
    _mutant(
        "runs without weights are proposed for export",
        "runs/finished.py",
        "{path.stem for path in runs if _has_weights(path)} or {path.stem for path in runs}",
        "{path.stem for path in runs}",
        "runs/test_export_errors.py",
    ),
)


def source(mutant: Mutant, root: Path = ROOT) -> str:
    """The text of the file that the fault is planted in."""
    return (root / mutant.file).read_text(encoding="utf-8")


def copy(origin: Path, folder: Path) -> None:
    """The project in `origin`, without its history and its environment."""
    for name in COPIED:
        path = origin / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(path, folder / name)


@dataclass(frozen=True)
class Ended:
    """How a pytest ended: its exit code, and what it printed."""

    code: int
    text: str

    @property
    def red(self) -> list[str]:
        """The tests that failed."""
        lines = [line.partition(" ")[2] for line in self.text.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        return [line.split(" - ")[0] for line in lines]


def pytest_in(folder: Path, *arguments: str) -> Ended:
    """Run pytest on the code in `folder`, in a process forked from one that has imported the heavy libraries.

    Raises:
        RuntimeError: it has not ended after SECONDS.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as printed:
        process = FORKS.Process(target=_run_pytest, args=(folder, arguments, printed.name))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            raise RuntimeError(f"pytest {' '.join(arguments)} has not ended after {SECONDS} s")
        return Ended(process.exitcode, printed.read())


def _run_pytest(folder: Path, arguments: tuple[str, ...], printed: str) -> None:
    os.setsid()  # so that what the tests start can be ended with them
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)  # for the processes that tests start
    sys.path.insert(0, str(folder))
    with Path(printed).open("w", encoding="utf-8") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    import pytest

    early = "ignore::pytest.PytestAssertRewriteWarning"  # of plugins that the libraries have imported before pytest
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-W", early, "--tb=no", "-rfE", *arguments]))


def killed(mutant: Mutant, origin: Path, red: list[str]) -> bool:
    """Whether a test other than those already `red` turns red with this fault planted in a copy of `origin`.

    Raises:
        RuntimeError: they could not be run at all, which proves nothing.
    """
    with tempfile.TemporaryDirectory(prefix="lora2-mutant-") as name:
        folder = Path(name)
        copy(origin, folder)
        text = source(mutant, folder)
        if text.count(mutant.old) != 1:
            raise RuntimeError(f"{mutant.name}: its text occurs {text.count(mutant.old)} times in {mutant.file}")
        (folder / mutant.file).write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = pytest_in(folder, "-x", *(f"--deselect={test}" for test in red), *mutant.tests)
    if done.code != 0 and not done.red:
        raise RuntimeError(f"{mutant.name}: pytest ended with {done.code}: {done.text[-800:]}")
    return done.code != 0


def red_before(origin: Path, tests: Collection[str]) -> list[str]:
    """The tests that fail without any fault: they can kill nothing.

    Raises:
        RuntimeError: they could not be run at all.
    """
    done = pytest_in(origin, *tests)
    if done.code != 0 and not done.red:
        raise RuntimeError(f"pytest ended with {done.code}: {done.text[-800:]}")
    return done.red


def survivors(wanted: list[Mutant], jobs: int) -> list[str]:
    """Plant each fault, say what became of it, and return the names of those that no test noticed."""
    with tempfile.TemporaryDirectory(prefix="lora2-mutants-") as name, ThreadPoolExecutor(jobs) as pool:
        origin = Path(name)  # one state of the code for all, whatever happens to the project meanwhile
        copy(ROOT, origin)
        of_files = defaultdict(set)
        for test in {test for mutant in wanted for test in mutant.tests}:
            of_files[test.partition("::")[0]].add(test)
        print(f"first without a fault: the tests of {len(of_files)} files", file=sys.stderr)
        red = [test for found in pool.map(lambda tests: red_before(origin, tests), of_files.values()) for test in found]
        for test in red:
            print(f"left out, it is red without any fault: {test}", file=sys.stderr)
        alive = []
        for mutant, dead in zip(wanted, pool.map(lambda m: killed(m, origin, red), wanted), strict=True):
            print(f"{'killed  ' if dead else 'SURVIVED'}  {mutant.file}: {mutant.name}", flush=True)
            alive += [] if dead else [mutant.name]
        return alive


def main() -> int:
    """Exit code: 0 all killed, 1 there are survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help='"issue2" for its eight, or a part of a name')
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time")
    parser.add_argument("--survivors", action="store_true", help="those that the last run over all left alive")
    chosen = parser.parse_args()
    before = json.loads(FIGURES.read_text(encoding="utf-8"))["mutants"]
    if chosen.survivors:
        wanted = [mutant for mutant in MUTANTS if mutant.name in before["survivors"]]
    else:
        wanted = [mutant for mutant in MUTANTS if _is_asked_for(mutant, chosen.only)]
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    FORKS.set_forkserver_preload([*HEAVY])
    started = time.perf_counter()
    alive = survivors(wanted, chosen.jobs)
    minutes = (time.perf_counter() - started) / 60
    print(f"{len(wanted) - len(alive)} of {len(wanted)} killed in {minutes:.1f} minutes")
    if chosen.only is None:
        tried = before["tried"] if chosen.survivors else len(wanted)
        write({"tried": tried, "killed": tried - len(alive), "survivors": alive})
    return 1 if alive else 0


def _is_asked_for(mutant: Mutant, only: str | None) -> bool:
    return only is None or (mutant.issue2 if only == "issue2" else only in mutant.name)


def write(figures: dict[str, object]) -> None:
    """Put the figures under "mutants" into results/faults.json; other keys stay."""
    merge_figures(FIGURES, {"mutants": figures})


if __name__ == "__main__":
    sys.exit(main())
