"""The checksums of the official GLUE files, by which a file that was changed is told from them.

MD5 of the bytes. Source: PaddleNLP, paddlenlp/datasets/glue.py at commit 0025c3d29c3f923720afcc24c012813b1d543dd9,
which checks the files of the unpacked zips by them. Its checksums of the zips are those that torchtext gives for
SST-2.zip and QNLIv2.zip, and other Paddle examples for QQP-clean.zip, of https://dl.fbaipublicfiles.com/glue/data.
The 12 files of CoLA, MRPC, RTE and STS-B were computed anew from an official download with the same result; those of
SST-2, QQP, MNLI and QNLI were not at hand.
"""

import hashlib
from collections.abc import Mapping

from lora2.glue.tasks import TaskSpec

MD5: Mapping[str, Mapping[str, str]] = {
    "cola": {
        "train": "c79d4693b8681800338aa044bf9e797b",
        "validation": "c5475ccefc9e7ca0917294b8bbda783c",
        "test": "d8721b7dedda0dcca73cebb2a9f4259f",
    },
    "sst2": {
        "train": "da409a0a939379ed32a470bc0f7fe99a",
        "validation": "268856b487b2a31a28c0a93daaff7288",
        "test": "3230e4efec76488b87877a56ae49675a",
    },
    "mrpc": {
        "train": "dc2dac669a113866a6480a0b10cd50bf",
        "validation": "185958e46ba556b38c6a7cc63f3a2135",
        "test": "4825dab4b4832f81455719660b608de5",
    },
    "qqp": {
        "train": "e003db73d277d38bbd83a2ef15beb442",
        "validation": "cff6a448d1580132367c22fc449ec214",
        "test": "73de726db186b1b08f071364b2bb96d0",
    },
    "stsb": {
        "train": "4f7a86dde15fe4832c18e5b970998672",
        "validation": "5f4d6b0d2a5f268b1b56db773ab2f1fe",
        "test": "339b5817e414d19d9bb5f593dd94249c",
    },
    "mnli": {
        "train": "220192295e23b6705f3545168272c740",
        "validation_matched": "c3fa2817007f4cdf1a03663611a8ad23",
        "validation_mismatched": "b219e6fe74e4aa779e2f417ffe713053",
        "test_matched": "33ea0389aedda8a43dabc9b3579684d9",
        "test_mismatched": "7d2f60a73d54f30d8a65e474b615aeb6",
    },
    "qnli": {
        "train": "5e6063f407b08d1f7c7074d049ace94a",
        "validation": "1e81e211959605f144ba6c0ad7dc948b",
        "test": "f2a29f83f3fe1a9c049777822b7fa8b0",
    },
    "rte": {
        "train": "d2844f558d111a16503144bb37a8165f",
        "validation": "973cb4178d4534cf745a01c309d4a66c",
        "test": "6041008f3f3e48704f57ce1b88ad2e74",
    },
}


def is_official(task: TaskSpec, split: str, content: bytes) -> bool:
    """Say whether a file's bytes are the official ones; other line ends make no difference, as none is read.

    Args:
        task: whose file it is.
        split: by its name on the hub.
        content: the file's bytes.
    """
    known = MD5[task.name][split]
    return known in (_md5(content), _md5(content.replace(b"\r\n", b"\n")))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
