"""The claims audit: the counts, each recomputed value, each verdict, and the generated page."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lora2.analysis.claims.audit import CHECKS, Audited, as_table, audit
from lora2.analysis.claims.checks import matches_print, printed_count
from lora2.analysis.paper import load_claims
from lora2.common.errors import UserError
from lora2.core.counts import (
    DEBERTA_V3_BASE,
    ROBERTA_LARGE,
    lora2_parameters,
    lora_parameters,
    share_without_large,
    share_without_small,
)
from lora2.core.matrices import MATRICES

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ROOT / "results" / "paper"
EXPECTED = {  # key: (a part of the recomputed value, verdict)
    "trainable_share": ("0.723 % (k=8)", "holds only if k = 8"),
    "count_k1": ("167,616 (r=8)", "holds"),
    "count_k8": ("1,336,896 (r=8), 1,332,000 (r=4)", "holds only if r = 4"),
    "eight_times": ("7.8 from the printed counts", "holds"),
    "sensitivity_matrix": ("98.46 %", "holds only if one 768×768 matrix, k=1, r=8"),
    "sensitivity_model": (
        "98.97 % (all six, k=1), 99.38 % (FFN, k=1), 98.91 % (attention, k=8), 99.27 %",
        "holds only if",
    ),
    "sensitivity_literal": ("1.03 % (768×768 matrix), 0.69 % (all six)", "does not hold"),
    "average_k1": ("89.06", "holds"),
    "average_k8": ("89.43", "does not hold"),
    "averages_table1": ("8 of 8", "holds"),
    "averages_table3": ("5 of 5", "holds"),
    "averages_table4": ("3 of 4", "does not hold for Q, K"),
    "rte_margin": ("2.17", "holds"),
    "margin_k1_lora": ("1.83 from the entries", "does not hold"),
    "margin_k1_sora": ("1.20 from the entries, 1.21 from the printed", "does not hold"),
    "margin_k8_lora": ("1.05 from the entries, 1.30 from the printed", "holds only if the printed average 89.68"),
    "margin_k8_sora": ("0.07 from the entries, 0.32 from the printed", "holds only if the printed average 89.68"),
    "k1_beats_r8": ("−0.25 (AdaLoRA (r=8)), −0.30", "does not hold against AdaLoRA (r=8), SoRA (r=8)"),
    "test_results": ("16 of 16 cells", "does not hold"),
    "regulariser_gain": ("0.32", "holds"),
    "slowdown": ("14.8 % slower (12.9 to 17.1 %)", "does not hold"),
    "table2_caption": ("7 datasets", "does not hold"),
    "counts_table4": ("37,440 / 37,440 / 56,160 / 167,616", "holds"),
    "roberta_compression": ("99.88 %", "does not hold"),
    "roberta_saving": ("0.34M (six matrices), 0.39M", "does not hold"),
    "roberta_four_times": ("2.0 (LoRA)", "does not hold"),
    "roberta_gain": ("90.51", "cannot be checked"),
}


@pytest.fixture(scope="module")
def audited() -> dict[str, Audited]:
    return {item.claim.key: item for item in audit(PAPERS)}


@pytest.mark.parametrize(
    ("matrices", "k", "r", "count"),
    [
        (("query", "key"), 1, 8, 37_440),
        (("query", "key", "value"), 1, 8, 56_160),
        (MATRICES, 1, 8, 167_616),
        (MATRICES, 8, 8, 1_336_896),
        (MATRICES, 8, 4, 1_332_000),
    ],
)
def test_counts_on_deberta(matrices: tuple[str, ...], k: int, r: int, count: int) -> None:
    assert lora2_parameters(DEBERTA_V3_BASE, k, r, matrices) == count


def test_counts_on_roberta_large() -> None:
    assert lora2_parameters(ROBERTA_LARGE, 1, 8) == 445_824
    assert lora2_parameters(ROBERTA_LARGE, 1, 8, [name for name in MATRICES if name != "attn_output"]) == 396_096
    assert lora_parameters(ROBERTA_LARGE, 8, ["query", "value"]) == 786_432


def test_shares_split_the_whole() -> None:
    for k, r in ((1, 8), (8, 8), (8, 4)):
        total = lora2_parameters(DEBERTA_V3_BASE, k, r)
        diagonal = r * len(MATRICES) * DEBERTA_V3_BASE.layers / total
        shares = share_without_large(DEBERTA_V3_BASE, k, r) + share_without_small(DEBERTA_V3_BASE, k, r)
        assert shares + diagonal == pytest.approx(1.0)


def test_printed_counts() -> None:
    assert printed_count("37.4k") == pytest.approx(37_400)
    assert printed_count("184M") == pytest.approx(184e6)
    assert matches_print(1_332_000, "1.33M")
    assert not matches_print(1_336_896, "1.33M")


def test_every_claim_is_expected_and_every_check_is_used(audited: dict[str, Audited]) -> None:
    assert set(audited) == set(EXPECTED)
    assert {claim.check for claim in load_claims(PAPERS)} == set(CHECKS)


@pytest.mark.parametrize("key", EXPECTED)
def test_recomputed_value_and_verdict(audited: dict[str, Audited], key: str) -> None:
    part, verdict = EXPECTED[key]
    finding = audited[key].finding
    assert part in finding.recomputed
    assert finding.verdict == verdict if verdict == "holds" else finding.verdict.startswith(verdict)
    assert finding.how


def test_the_audit_follows_the_data(tmp_path: Path) -> None:
    shutil.copytree(PAPERS, tmp_path / "paper")
    table = tmp_path / "paper" / "table1.yaml"
    table.write_text(table.read_text(encoding="utf-8").replace("72.30", "74.30"), encoding="utf-8")
    changed = {item.claim.key: item.finding for item in audit(tmp_path / "paper")}
    assert changed["average_k8"].recomputed == "89.68"
    assert changed["average_k8"].verdict == "holds"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("claims.yaml", "check: slowdown", "check: speed", "check: got speed, allowed: trainable_share"),
        ("claims.yaml", "{ratio: 8}", "{factor: 8}", "claim eight_times needs the row or value 'ratio'"),
        ("table1.yaml", "  lora_r8:", "  lora_r9:", "claim eight_times needs the row or value 'lora_r8'"),
    ],
)
def test_damaged_data_is_named(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    shutil.copytree(PAPERS, tmp_path / "paper")
    path = tmp_path / "paper" / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as error:
        audit(tmp_path / "paper")
    assert message in str(error.value)


def test_tally_counts_every_claim(audited: dict[str, Audited]) -> None:
    table = as_table(list(audited.values()))
    assert table.sentences[0] == "27 claims: 8 hold, 6 hold only if …, 12 do not hold, 1 cannot be checked."


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "results.py"), "claims", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_cli_creates_the_page_and_knows_a_stale_one(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "RESULTS.md"
    assert cli("--output", page, "--check").returncode == 1
    assert not page.exists()
    assert cli("--output", page).returncode == 0
    assert "98.46 %" in page.read_text(encoding="utf-8")
    assert cli("--output", page, "--check").returncode == 0
    page.write_text(page.read_text(encoding="utf-8").replace("98.46 %", "98.5 %"), encoding="utf-8")
    assert cli("--output", page, "--check").returncode == 1


def test_the_page_in_the_repository_is_fresh() -> None:
    assert cli("--output", ROOT / "docs" / "RESULTS.md", "--check").returncode == 0


def test_existing_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("# mine\n", encoding="utf-8")
    done = cli("--output", page)
    assert done.returncode == 2
    assert "claims:begin" in done.stderr
    assert page.read_text(encoding="utf-8") == "# mine\n"
