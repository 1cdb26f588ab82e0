"""How every method is named and drawn: one table for all pages and pictures.

A family has a hue (LoRA² blue, LoRA and its kin warm, adapters green, the rest grey), a method in it a colour of that
hue and a mark. What switches a part of LoRA² off has the colour of its size and a mark of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OURS, LOW_RANK, ADAPTERS, SUBSETS = "LoRA²", "LoRA family", "adapters", "parts of the model"
NAMES = {
    "full": "full", "bitfit": "BitFit", "head": "head", "lora2": "LoRA²", "lora": "LoRA", "adalora": "AdaLoRA",
    "sora": "SoRA", "houlsby": "Houlsby", "pfeiffer": "Pfeiffer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """The same shape for matplotlib and, as an SVG path in a box from −1 to 1, for the page."""

    matplotlib: str
    path: str


CIRCLE = Mark("o", "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z")
SQUARE = Mark("s", "M-0.9,-0.9L0.9,-0.9L0.9,0.9L-0.9,0.9Z")
DIAMOND = Mark("D", "M0,-1L1,0L0,1L-1,0Z")
UP = Mark("^", "M0,-1L1,0.8L-1,0.8Z")
DOWN = Mark("v", "M0,1L1,-0.8L-1,-0.8Z")
LEFT = Mark("<", "M-1,0L0.8,-1L0.8,1Z")
RIGHT = Mark(">", "M1,0L-0.8,-1L-0.8,1Z")
PLUS = Mark("P", "M-0.4,-1L0.4,-1L0.4,-0.4L1,-0.4L1,0.4L0.4,0.4L0.4,1L-0.4,1L-0.4,0.4L-1,0.4L-1,-0.4L-0.4,-0.4Z")
PENTAGON = Mark("p", "M0,-1L0.95,-0.31L0.59,0.81L-0.59,0.81L-0.95,-0.31Z")
HEXAGON = Mark("h", "M0,-1L0.87,-0.5L0.87,0.5L0,1L-0.87,0.5L-0.87,-0.5Z")


@dataclass(frozen=True, slots=True)
class Style:
    """How a method is drawn: its colours on a light and on a dark page, and its mark."""

    family: str
    light: str
    dark: str
    mark: Mark


# By method and size; a method's own row is of its other sizes. In the order in which legends name them.
STYLES: Mapping[str, Style] = {
    "lora2_k8": Style(OURS, "#0a58a8", "#6db3ff", CIRCLE),
    "lora2_k1": Style(OURS, "#3485d0", "#b5d8ff", DIAMOND),
    "lora2": Style(OURS, "#6a45b8", "#b79bff", HEXAGON),
    "lora_r8": Style(LOW_RANK, "#b34a00", "#ff9d5c", CIRCLE),
    "lora_r1": Style(LOW_RANK, "#d0721a", "#ffc99a", DIAMOND),
    "lora": Style(LOW_RANK, "#8a5a2b", "#d9b38c", HEXAGON),
    "adalora_r8": Style(LOW_RANK, "#a3221a", "#ff8f85", SQUARE),
    "adalora_r2": Style(LOW_RANK, "#d9534a", "#ffc0ba", UP),
    "adalora": Style(LOW_RANK, "#8f2d56", "#e39ab8", PENTAGON),
    "sora_r8": Style(LOW_RANK, "#8a6a00", "#e8c44a", DOWN),
    "sora_r1": Style(LOW_RANK, "#ab8500", "#f5e09a", PLUS),
    "sora": Style(LOW_RANK, "#6e5c1e", "#c9b878", LEFT),
    "houlsby_b8": Style(ADAPTERS, "#0f7a4a", "#5fd39b", UP),
    "houlsby_b16": Style(ADAPTERS, "#1b9a63", "#93e6bf", RIGHT),
    "houlsby": Style(ADAPTERS, "#0b5c3a", "#3fae7c", PENTAGON),
    "pfeiffer_b16": Style(ADAPTERS, "#4f7a00", "#b5d451", DOWN),
    "pfeiffer_b32": Style(ADAPTERS, "#6a9a10", "#d3ea90", LEFT),
    "pfeiffer": Style(ADAPTERS, "#38560a", "#8fae3c", HEXAGON),
    "full": Style(SUBSETS, "#18202b", "#f2f5f9", SQUARE),
    "bitfit": Style(SUBSETS, "#5c6470", "#b4bdc9", CIRCLE),
    "head": Style(SUBSETS, "#858d99", "#7f8997", DIAMOND),
}
OTHER = "other"  # what the suite has no method for, among the papers' rows
ALL_STYLES: Mapping[str, Style] = {**STYLES, OTHER: Style(SUBSETS, "#6b7280", "#9aa3af", PLUS)}
SWITCHED_OFF: Mapping[str, Mark] = {
    "unpruned": SQUARE,
    "reg-none": UP,
    "score-full": DOWN,
    "reg-uv": LEFT,
    "reg-UV": RIGHT,
    "reg-uv+UV": PENTAGON,
    "reg-PQ": HEXAGON,
}


def style_name(variant: str) -> str:
    """Return the row of ALL_STYLES that has a variant's colour.

    >>> style_name("lora2_k1_reg-uv"), style_name("sora_r4"), style_name("dcft_best")
    ('lora2_k1', 'sora', 'other')
    """
    method, _, rest = variant.partition("_")
    known = (f"{method}_{rest.partition('_')[0]}", method)
    return next((name for name in known if name in STYLES), OTHER)


def mark_of(variant: str) -> Mark:
    """Return a variant's mark; what is switched off in a way that is not listed shares one."""
    _, _, switched = variant.partition("_")[2].partition("_")
    return SWITCHED_OFF.get(switched, PLUS) if switched else ALL_STYLES[style_name(variant)].mark


def style_place(variant: str) -> tuple[int, str]:
    """Return what variants are sorted by in a legend: families together, then by name."""
    return list(ALL_STYLES).index(style_name(variant)), variant


def method_name(variant: str) -> str:
    """Write a variant as a reader says it: `lora2_k8` is LoRA² k=8.

    >>> method_name("lora2_k8"), method_name("full"), method_name("lora2_k8_unpruned")
    ('LoRA² k=8', 'full', 'LoRA² k=8 unpruned')
    """
    method, *rest = variant.split("_")
    size = [f"{part[0]}={part[1:]}" if part[1:].isdigit() else part for part in rest]
    return " ".join([NAMES.get(method, method), *size])
