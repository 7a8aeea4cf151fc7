"""One event a line, for machines or for people, and never a prompt, a key or a signed address."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest
import structlog

from workers.logs import FORBIDDEN, configure, describe, log

SECRET = "service-key-for-tests"
Say = Callable[[], object]


@pytest.fixture(autouse=True)
def _logs_as_before():
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level, factory = root.handlers[:], root.level, logging.getLogRecordFactory()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**before)
    logging.setLogRecordFactory(factory)


@pytest.fixture
def lines(capsys):
    """What a process with these settings prints for what is said."""

    def printed(say: Say, **settings: str) -> list[str]:
        configure(**({"fmt": "json"} | settings), secrets=[SECRET])
        say()
        output = capsys.readouterr()
        assert output.err == ""
        return output.out.splitlines()

    return printed


@pytest.fixture
def event(lines):
    """The one event that is printed."""

    def printed(say: Say) -> dict:
        (line,) = lines(say)
        return json.loads(line)

    return printed


def fail() -> None:
    raise ValueError("could not paint a red bicycle")


def failing(say: Callable[[str], None]) -> Say:
    """Say something while an error is being handled."""

    def fails() -> None:
        try:
            fail()
        except ValueError:
            say("it broke")

    return fails


def test_an_event_is_one_line_of_json_with_its_fields(event):
    said = event(lambda: log.info("delivered", job="b91f", type="image_fast", seconds=2.1))
    assert said.pop("timestamp").endswith("Z")
    assert said == {"event": "delivered", "level": "info", "job": "b91f", "type": "image_fast", "seconds": 2.1}


def test_for_people_an_event_is_one_readable_line(lines):
    (line,) = lines(lambda: log.warning("delivered", job="b91f", seconds=2.123, note=None), fmt="text")
    assert line[8:].split() == ["warning", "delivered", "job=b91f", "seconds=2.12"]


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_line_breaks_in_a_value_do_not_begin_a_new_event(lines, fmt):
    value = 'x\n{"event": "delivered"}\r\nand\u2028more\x0bstill'
    assert len(lines(lambda: log.info("claimed", type=value), fmt=fmt)) == 1


def test_where_no_person_reads_events_are_json(lines):
    (line,) = lines(lambda: log.info("claimed"), fmt="auto")
    assert json.loads(line)["event"] == "claimed"


def test_what_is_below_the_level_is_not_said(lines):
    assert not lines(lambda: log.info("claimed"), level="warning")
    assert lines(lambda: log.error("lost"), level="warning")


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_a_field_that_could_hold_a_prompt_or_a_key_is_dropped(event, name):
    said = event(lambda: log.info("claimed", job="b91f", **{name: "a red bicycle", name.upper(): "a red bicycle"}))
    assert said.keys() == {"event", "level", "timestamp", "job"}


def test_a_secret_is_cut_out_of_any_text(event):
    said = event(lambda: log.warning(f"refused {SECRET}", reason=f"the server did not like {SECRET} at all"))
    assert (said["event"], said["reason"]) == ("refused •••", "the server did not like ••• at all")


@pytest.mark.parametrize("nested", [[SECRET], (SECRET,), {"answer": SECRET}, {"answer": [{SECRET: f"no {SECRET}"}]}])
def test_a_secret_is_cut_out_of_lists_and_mappings_too(event, nested):
    assert SECRET not in str(event(lambda: log.warning("refused", said=nested)))


@pytest.mark.parametrize("nested", [{"prompt": "a red bicycle"}, [{"headers": {"apikey": "a red bicycle"}}]])
def test_a_private_field_is_dropped_at_any_depth(event, nested):
    assert "bicycle" not in str(event(lambda: log.warning("refused", said=nested)))


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_a_librarys_own_logs_lose_secrets_and_keep_to_one_line(lines, fmt):
    (line,) = lines(lambda: logging.getLogger("some.library").warning("GET /%s\nfailed", SECRET), fmt=fmt)
    assert SECRET not in line
    assert "failed" in line


@pytest.mark.parametrize("name", ["httpx", "httpcore", "PIL", "asyncio"])
def test_chatty_libraries_are_heard_only_when_something_is_wrong(lines, name):
    library = logging.getLogger(name)
    assert not lines(lambda: library.info('HTTP Request: GET https://project.supabase.co/x?token=abc "200 OK"'))
    assert lines(lambda: library.warning("something is wrong"))


@pytest.mark.parametrize("logger", [log, logging.getLogger("some.library")], ids=["ours", "a library's"])
def test_an_exception_is_named_with_its_place_and_without_its_text(event, logger):
    said = event(failing(lambda text: logger.exception(text)))
    assert said["error"] == "ValueError"
    assert said["at"].startswith("test_logs.py:")
    assert "bicycle" not in str(said)


def test_an_error_is_described_by_where_it_was_raised():
    with pytest.raises(ValueError) as caught:
        fail()
    line = fail.__code__.co_firstlineno + 1
    assert describe(caught.value) == {"error": "ValueError", "at": f"test_logs.py:{line}"}


def test_configuring_again_does_not_say_everything_twice(lines):
    for _ in range(2):
        assert len(lines(lambda: log.info("claimed"))) == 1


def test_a_library_is_quoted_with_its_own_words_only(event):
    said = event(lambda: logging.getLogger("some.library").warning("cut %s to %d tokens", "a red bicycle", 77))
    assert (said["event"], said["library"]) == ("cut %s to %d tokens", "some.library")
    assert said["at"].startswith("test_logs.py:")


def test_a_librarys_finished_sentence_is_not_quoted(event):
    said = event(lambda: logging.getLogger("some.library").warning("a red bicycle was cut"))
    assert said["event"] == "library message"
    assert said["at"].startswith("test_logs.py:")
