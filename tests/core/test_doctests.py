"""The examples in the docstrings of the library give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import lora2

CORE = Path(lora2.__file__).parent / "core"


def examples(item: object, name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(item, name)
    return [test for test in found if test.examples]


EXAMPLES = [
    test
    for path in sorted(CORE.glob("*.py"))
    if path.stem != "__init__"
    for test in examples(importlib.import_module(f"lora2.core.{path.stem}"), f"lora2.core.{path.stem}")
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example):
    torch.manual_seed(0)
    assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0


def test_what_a_user_calls_has_one():
    documented = {example.name.split(".")[3] for example in EXAMPLES}
    assert documented == {"BudgetSchedule", "RankAllocator", "inject"}
