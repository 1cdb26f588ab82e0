"""The table of planted faults stays true to the code: each text is there, once, and the tests it names exist."""

import mutants
import pytest
import yaml


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_the_faults_text_occurs_exactly_once(mutant):
    assert mutants.source(mutant).count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert all((mutants.ROOT / test.partition("::")[0]).is_file() for test in mutant.tests)
    faulty = mutants.source(mutant).replace(mutant.old, mutant.new)
    if mutant.file.endswith(".yaml"):
        assert yaml.safe_load(faulty).keys() == yaml.safe_load(mutants.source(mutant)).keys()
    else:
        compile(faulty, mutant.file, "exec")  # a fault, not a typing error


def test_there_are_enough_of_them():
    assert sum(mutant.issue2 for mutant in mutants.MUTANTS) == 8
    assert len(mutants.MUTANTS) >= 28
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)
