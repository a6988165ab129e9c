"""Structured logs: form, masking, bounds, rotation."""

from __future__ import annotations

import io
import json
import logging
import threading
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.telemetry import logs, start_logging
from osiris_mesh.telemetry.logs import OURS
from osiris_mesh.telemetry.redact import MASK, Redact, redact_text, safe

TOKEN = "osm1" + "Ab3_-" * 40
log = logging.getLogger("osiris_mesh.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = list(root.handlers), [logging.getLogger(name).level for name in ("", *OURS)]
    yield
    assert root.handlers == handlers
    assert [logging.getLogger(name).level for name in ("", *OURS)] == levels


def json_lines(*, level: str = "info", emit) -> list[dict]:
    stream = io.StringIO()
    with start_logging(node="alpha", peer="12D3KooWx", level=level, style="json", stream=stream):
        emit()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_its_name_and_its_fields() -> None:
    (line,) = json_lines(emit=lambda: log.info("link cut", extra={"peer": "12D3KooWy", "height": 7}))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "link cut",
        "logger": "osiris_mesh.test",
        "node": "alpha",
        "peer_id": "12D3KooWx",
        "peer": "12D3KooWy",
        "height": 7,
    }


def test_no_field_can_pass_for_who_says_it() -> None:
    (line,) = json_lines(emit=lambda: log.info("x", extra={"node": "beta", "level": "error", "time": 1}))
    assert (line["node"], line["level"], line["field_node"], line["field_level"]) == ("alpha", "info", "beta", "error")


def test_an_exception_comes_with_its_traceback() -> None:
    def emit() -> None:
        try:
            int(TOKEN)
        except ValueError:
            log.exception("failed")

    (line,) = json_lines(emit=emit)
    assert "ValueError: invalid literal for int() with base 10: 'osm1[masked]" in line["error"]
    assert "test_logs.py" in line["error"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("key", b"k" * 32, MASK),
        ("network_key", bytearray(32), MASK),
        ("network_key", "ab" * 32, MASK),
        ("seed", memoryview(bytes(32)), MASK),
        ("token", TOKEN, MASK),
        ("secret", "s", MASK),
        ("client_secret", ["a", "b"], MASK),
        ("password", "p", MASK),
        ("Authorization", "Bearer x", MASK),
        ("key", "max_retries", "max_retries"),
        ("public_key", b"\1\2", "0102"),
        ("token_id", "abcd", "abcd"),
        ("digest", bytes(40), "00" * 32 + "…"),
        ("why", f"it was {TOKEN}!", "it was osm1[masked]!"),
        ("settings", {"token": "t", "port": 1}, {"token": MASK, "port": 1}),
        ("many", list(range(100)), list(range(32))),
        ("text", "x" * 9999, "x" * 4096),
        ("path", Path("/a"), str(Path("/a"))),
        ("none", None, None),
        ("share", 0.5, 0.5),
    ],
)
def test_what_is_shown_of_a_field(name: str, value: object, shown: object) -> None:
    assert safe(name, value) == shown
    (line,) = json_lines(emit=lambda: log.info("x", extra={name: value}))
    assert line[name] == shown


def test_secrets_in_the_text_are_masked_too() -> None:
    def emit() -> None:
        log.info("token %s, key %s, %d", TOKEN, b"kkkk", 5)
        log.info("token %(token)s", {"token": TOKEN})

    first, second = json_lines(emit=emit)
    assert first["event"] == "token osm1[masked], key [masked], 5"
    assert second["event"] == "token osm1[masked]"


def test_a_wrong_format_string_still_makes_a_line() -> None:
    record = log.makeRecord(log.name, logging.INFO, "", 0, "%d of %d", ("x",), None)
    assert Redact().filter(record)
    assert record.getMessage() == "%d of %d"


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=50), st.recursive(st.binary() | st.text() | st.integers() | st.floats(), st.lists, max_leaves=8)
)
def test_anything_can_be_shown(name: str, value: object) -> None:
    json.dumps(safe(name, value))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.text(alphabet="Ab3_-", min_size=16, max_size=60), st.text(max_size=30))
def test_no_token_survives(before: str, token: str, after: str) -> None:
    assert "osm1" + token not in redact_text(f"{before}osm1{token}{after}")


def test_text_for_people() -> None:
    stream = io.StringIO()
    with start_logging(node="alpha", stream=stream):
        log.warning("link cut\nfaked line", extra={"peer": "p", "why": 'no "more"\n', "height": 3})
    (line,) = stream.getvalue().splitlines()
    assert line[13:] == 'warning  alpha  link cut\\nfaked line  peer=p why="no \\"more\\"\\n" height=3'


def test_levels() -> None:
    def emit() -> None:
        log.debug("ours, debug")
        log.info("ours, info")
        logging.getLogger("somebody.else").info("theirs, info")
        logging.getLogger("somebody.else").warning("theirs, warning")

    assert [line["event"] for line in json_lines(emit=emit)] == ["ours, info", "theirs, warning"]
    assert [line["event"] for line in json_lines(level="debug", emit=emit)] == [
        "ours, debug",
        "ours, info",
        "theirs, warning",
    ]
    assert json_lines(level="error", emit=emit) == []


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"style": "xml"}])
def test_unknown_words_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        start_logging(node="alpha", stream=io.StringIO(), **wrong)


def test_the_file_is_private_and_bounded(tmp_path: Path) -> None:
    file = tmp_path / "node.log"
    with start_logging(node="alpha", style="json", file=file, max_bytes=2000, keep=2):
        for number in range(200):
            log.info("event", extra={"number": number})
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["node.log", "node.log.1", "node.log.2"]
    assert all(path.stat().st_size <= 2000 and path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert json.loads(file.read_text("utf-8").splitlines()[-1])["number"] == 199


class Stuck(io.StringIO):
    """A terminal that nobody reads until ``release``."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.entered = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.release.wait(30)
        return super().write(text)


def test_a_reader_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_QUEUE", 100)
    stream = Stuck()
    logging_ = start_logging(node="alpha", style="json", stream=stream)
    try:
        log.info("first")
        assert stream.entered.wait(10)
        for _ in range(150):
            log.info("more")
        stream.release.set()
        for _ in range(1000):
            if logging_._handler.queue.qsize() <= 10:
                break
            threading.Event().wait(0.01)
        log.info("last")
    finally:
        stream.release.set()
        logging_.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[-1]["event"] == "last"
    (lost,) = [line for line in lines if line["event"] == "log lines dropped"]
    assert lost["count"] == 50
    assert len(lines) == 1 + 100 + 2


def test_closing_takes_a_bounded_time_even_if_the_reader_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_QUEUE", 10)
    monkeypatch.setattr(logs, "_CLOSE_SECONDS", 0.05)
    stream = Stuck()
    try:
        with start_logging(node="alpha", stream=stream):
            for _ in range(50):
                log.info("more")
    finally:
        stream.release.set()


def test_close_may_be_called_twice() -> None:
    logging_ = start_logging(node="alpha", stream=io.StringIO())
    logging_.close()
    logging_.close()


def test_a_level_that_is_off_costs_next_to_nothing() -> None:
    with start_logging(node="alpha", stream=io.StringIO(), level="warning"):
        each = min(timeit.repeat(lambda: log.debug("x"), number=2000, repeat=5)) / 2000
    assert each < 20e-6
