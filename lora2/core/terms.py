"""The orthogonality terms of eq. 5, by the names that settings, records and curves use. Needs no torch."""

from typing import Literal, get_args

Term = Literal["uv", "UV", "PQ"]
TERMS: tuple[Term, ...] = get_args(Term)  # a variant's name keeps this order, whatever order the user gave
TERM_SIDES: dict[Term, tuple[str, str]] = {"uv": ("u", "v"), "UV": ("𝒰", "𝒱"), "PQ": ("P", "Q")}  # R(u,v) and so on
