"""Tell in which encoding a file of the download was saved, and how to convert it to UTF-8."""

import re
import shlex
from pathlib import Path

from lora2.common.errors import UserError

_MARKS = (  # UTF-32's begins with UTF-16's
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_LETTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")  # of UTF-8


def refuse_other_encodings(path: Path, content: bytes) -> None:
    """Pass a file in UTF-8, also one with a few stray bytes, whose rows are judged one by one.

    Args:
        path: of the file, for the message.
        content: its bytes.

    Raises:
        UserError: it is in another encoding; the message holds the command that converts it.
    """
    encoding = other_encoding(content)
    if encoding is None:
        return
    at = _first_odd_byte(content)
    line = content.count(b"\n", 0, at) + 1
    raise UserError(
        f"{path}, line {line}: byte 0x{content[at]:02x} is not UTF-8, the only encoding allowed; the file looks like "
        f"{encoding}. Download the official file again, or convert this one: {conversion(path, encoding)}"
    )


def other_encoding(content: bytes) -> str | None:
    """Guess the encoding of a file that is not UTF-8, by iconv's name; None for UTF-8, with or without stray bytes."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
    zeros = {"UTF-16BE": content[::2].count(0), "UTF-16LE": content[1::2].count(0)}
    likely = max(zeros, key=zeros.__getitem__)
    if zeros[likely] > len(content) // 4:  # of English text without a mark, every other byte is zero
        return likely
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        letters, rest = len(_LETTER.findall(content)), _LETTER.sub(b"", content)
        stray = bytes(byte for byte in rest if byte >= 0x80)
        return None if letters > len(stray) else _single_byte(stray)
    return None


def conversion(path: Path, encoding: str) -> str:
    """Return the shell command that converts a file to UTF-8 in its place."""
    source = shlex.quote(str(path.absolute()))
    target = shlex.quote(f"{path.absolute()}.utf8")
    return f"iconv -f {encoding} -t UTF-8 {source} > {target} && mv {target} {source}"


def _single_byte(stray: bytes) -> str:
    """ISO-8859-1 has no letters from 0x80 to 0x9f, where Windows has its quotes and dashes."""
    if not any(byte < 0xA0 for byte in stray):
        return "ISO-8859-1"
    try:
        stray.decode("cp1252")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "WINDOWS-1252"


def _first_odd_byte(content: bytes) -> int:
    """The position of the first byte that is not UTF-8, or of the first zero byte."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return content.index(0)
