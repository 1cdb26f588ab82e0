"""One colour and one mark for a method: rows are told apart, families have hues of their own, and all can be seen."""

from __future__ import annotations

import colorsys
from itertools import combinations

import pytest

from lora2.analysis.methods import (
    ADAPTERS,
    ALL_STYLES,
    LOW_RANK,
    OURS,
    STYLES,
    SUBSETS,
    mark_of,
    method_name,
    style_name,
)

PAGES = {"light": "#ffffff", "dark": "#12161c"}  # the paper of style.css
VISIBLE = 3.0  # the contrast that WCAG asks of graphics
GREY = 0.35  # of saturation
RAN = (  # every variant of the MiniLM records, in three recipes
    "adalora_r4", "adalora_r8", "adalora_r2", "bitfit", "full", "head", "houlsby_b8", "lora2_k1", "lora2_k8",
    "lora2_k8_reg-none", "lora2_k8_score-full", "lora2_k8_unpruned", "lora_r1", "lora_r8", "pfeiffer_b16", "sora_r1",
    "sora_r8",
)  # fmt: skip


def channels(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def luminance(colour: str) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels(colour)]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def hue_and_saturation(colour: str) -> tuple[float, float]:
    hue, _, saturation = colorsys.rgb_to_hls(*channels(colour))
    return 360 * hue, saturation


@pytest.mark.parametrize("theme", PAGES)
def test_every_colour_is_seen_on_its_page(theme):
    faint = {name for name, style in ALL_STYLES.items() if contrast(getattr(style, theme), PAGES[theme]) < VISIBLE}
    assert faint == set()


@pytest.mark.parametrize("theme", PAGES)
def test_no_two_rows_look_alike(theme):
    colours = [getattr(style, theme) for style in ALL_STYLES.values()]
    assert len(set(colours)) == len(colours)
    for one, other in combinations(STYLES.values(), 2):
        assert one.family != other.family or one.mark != other.mark


def test_seventeen_methods_are_told_apart():
    looks = {(style_name(variant), mark_of(variant)) for variant in RAN}
    assert len(looks) == len(RAN) == 17


@pytest.mark.parametrize("theme", PAGES)
def test_a_family_has_a_hue_of_its_own(theme):
    hues: dict[str, list[float]] = {}
    for style in STYLES.values():
        hue, saturation = hue_and_saturation(getattr(style, theme))
        if style.family != SUBSETS:
            assert saturation > GREY or style.family == LOW_RANK
            hues.setdefault(style.family, []).append(hue if hue < 300 else hue - 360)  # reds lie on both sides of 0
    assert max(hues[LOW_RANK]) < min(hues[ADAPTERS])
    assert max(hues[ADAPTERS]) < min(hues[OURS])


def test_what_is_switched_off_keeps_the_colour_of_its_size():
    assert style_name("lora2_k8_unpruned") == style_name("lora2_k8") == "lora2_k8"
    assert mark_of("lora2_k8_unpruned") != mark_of("lora2_k8")
    assert mark_of("lora2_k8_modules-qv") == mark_of("lora2_k8_something")


def test_any_text_has_a_name_and_a_look():
    for variant in ("", "_", "a__b", "<script>"):
        assert style_name(variant) == "other"
        assert isinstance(method_name(variant), str)
        assert mark_of(variant).path
