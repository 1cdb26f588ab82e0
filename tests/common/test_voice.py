"""log=quiet|normal|debug decides what the screen shows; the log of a run has it in any case."""

import logging
import warnings

import pytest

from lora2.common.voice import VOICE, logged, note, say, speaking


def speak() -> None:
    say("accuracy 0.5", at="quiet")
    say("step 3")
    say("loss 0.7", at="debug")


@pytest.mark.parametrize(
    ("level", "shown", "kept"),
    [
        ("quiet", ["accuracy 0.5"], ["accuracy 0.5", "step 3"]),
        ("normal", ["accuracy 0.5", "step 3"], ["accuracy 0.5", "step 3"]),
        ("debug", ["accuracy 0.5", "step 3", "loss 0.7"], ["accuracy 0.5", "step 3", "loss 0.7"]),
    ],
)
def test_the_screen_shows_what_the_level_lets_through_and_the_log_no_less_than_normal(
    level, shown, kept, tmp_path, capsys
):
    log = tmp_path / "run.log"
    with speaking(level), logged(log):
        speak()
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in shown))
    assert [line.split("  ", 1)[1] for line in log.read_text().splitlines()] == kept
    assert (VOICE.level, VOICE.log) == ("normal", None)


def test_a_note_is_for_the_log_alone_and_the_log_grows(tmp_path, capsys):
    log = tmp_path / "run.log"
    for word in ("one", "two\nthree"):
        with logged(log):
            note(word)
    assert [line.split("  ", 1)[1] for line in log.read_text().splitlines()] == ["one", "two", "three"]
    assert capsys.readouterr() == ("", "")


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path, capsys):
    with logged(tmp_path):  # a folder
        say("one")
        say("two")
    said = capsys.readouterr().err.splitlines()
    assert [said[0], said[2]] == ["one", "two"]
    assert said[1].startswith(f"{tmp_path}: takes no more (")
    assert len(said) == 3


def test_only_the_first_process_speaks(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with logged(tmp_path / "run.log"):
        speak()
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run.log").exists()


@pytest.mark.parametrize(("level", "heard"), [("quiet", []), ("normal", []), ("debug", ["somelib: it is noted"])])
def test_notes_of_libraries_are_for_debug(level, heard, capsys):
    with speaking(level):
        logging.getLogger("somelib").info("it is noted")
    assert capsys.readouterr().err.splitlines() == heard


def test_warnings_of_libraries_are_not_for_quiet(capsys):
    with speaking("quiet"):
        warnings.warn("soon gone", stacklevel=1)  # an error in a test that hears it
        logging.getLogger("somelib").warning("soon gone")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UserWarning, match="soon gone"):
        warnings.warn("soon gone", stacklevel=1)
