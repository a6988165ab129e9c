"""What providers are shown: kept in a file, read again as it changes, and a bad one stops nobody else's calls."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import Conflict, NotFound, OsirisError, UsageError
from osiris_mesh.node.credentials import CredentialFile, KeptCredentials, entry_of
from osiris_mesh_cli.main import main

ORIGIN = "https://api.acme.com"


def secret(folder: Path, text: str, name: str = "token") -> str:
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def test_it_is_kept_for_the_owner_alone_and_never_holds_the_secret(tmp_path: Path) -> None:
    file = CredentialFile(tmp_path)
    entry = {"origin": ORIGIN, "token_file": secret(tmp_path, "s3cret")}
    assert file.set("acme", entry)
    assert not file.set("acme", entry)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert "s3cret" not in file.path.read_text() + str(file.listing())
    file.remove("acme")
    assert file.listing() == []
    with pytest.raises(NotFound):
        file.remove("acme")


def test_what_is_set_changed_or_removed_counts_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    file = CredentialFile(tmp_path)
    kept = KeptCredentials(file, clock)
    assert kept.headers("acme", ORIGIN, "team/f") == {}
    file.set("acme", {"origin": ORIGIN, "token_file": secret(tmp_path, "one")})
    assert kept.headers("acme", f"{ORIGIN}/x", "team/f") == {"Authorization": "Bearer one"}
    assert kept.headers("acme", "https://evil.example/", "team/f") == {}
    secret(tmp_path, "another")
    # A file of a secret is looked at now and then.
    clock.advance(1.1)
    assert kept.value("acme", ORIGIN, "team/f") == "another"
    file.set("acme", {"origin": ORIGIN, "token_file": str(tmp_path / "token"), "header": "X-Key"})
    assert kept.headers("acme", ORIGIN, "team/f") == {"X-Key": "another"}
    file.remove("acme")
    assert kept.headers("acme", ORIGIN, "team/f") == {}


@pytest.mark.parametrize(
    "bad",
    [
        7,
        {},
        {"origin": ORIGIN},
        {"origin": "ftp://x", "token_file": "/x"},
        {"origin": ORIGIN, "token_file": "/not/there"},
    ],
)
def test_one_that_is_bad_stops_the_calls_of_its_provider_alone(tmp_path: Path, bad: Any) -> None:
    file = CredentialFile(tmp_path)
    file.set("acme", {"origin": ORIGIN, "token_file": secret(tmp_path, "one")})
    file.path.write_text(json.dumps(file.read() | {"other": bad}))
    kept = KeptCredentials(file, FakeClock())
    assert kept.headers("acme", ORIGIN, "team/f") == {"Authorization": "Bearer one"}
    assert kept.headers("third", ORIGIN, "team/f") == {}
    with pytest.raises(Conflict, match="other"):
        kept.headers("other", "https://other.example/", "team/f")
    assert [bool(row["error"]) for row in file.listing()] == [False, True]


@pytest.mark.parametrize("text", ["", "{", "[]", "nonsense", "7"])
def test_a_damaged_file_leaves_what_held_before(tmp_path: Path, text: str) -> None:
    clock, file = FakeClock(), CredentialFile(tmp_path)
    file.set("acme", {"origin": ORIGIN, "token_file": secret(tmp_path, "one")})
    kept = KeptCredentials(file, clock)
    kept.headers("acme", ORIGIN, "team/f")
    file.path.write_text(text)
    clock.advance(1.1)
    assert kept.headers("acme", ORIGIN, "team/f") == {"Authorization": "Bearer one"}
    with pytest.raises(Conflict, match="damaged"):
        file.listing()


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"origin": "https://", "token_file": "/x"},
        {"origin": "https://u:p@host", "token_file": "/x"},
        {"origin": "https://host:99999", "token_file": "/x"},
        {"origin": ORIGIN, "token_file": "/x", "header": "a b"},
        {"origin": ORIGIN, "token_file": "/x", "more": "y"},
        {"origin": ORIGIN, "token_file": 5},
        {"origin": ORIGIN, "token_file": "/x", "functions": "acme.com/*/*"},
        {"origin": ORIGIN, "token_file": "/x", "functions": []},
        {"origin": ORIGIN, "token_file": "/x", "functions": [7]},
        {"origin": ORIGIN, "token_file": "/x", "functions": ["a b"]},
        {"origin": ORIGIN, "token_file": "/x", "functions": ["a"] * 65},
        {"origin": ORIGIN, "token_file": "/x", "header": ["X-Key"]},
    ],
)
def test_what_is_no_credential_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        entry_of(value)


def test_a_secret_others_can_read_is_refused(tmp_path: Path) -> None:
    path = secret(tmp_path, "one")
    Path(path).chmod(0o644)
    with pytest.raises(OsirisError, match="read by others"):
        CredentialFile(tmp_path).set("acme", {"origin": ORIGIN, "token_file": path})


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> Any:
        code = main(["registry", "credential", *words, "--home", str(tmp_path / "home"), "--json"])
        out = capsys.readouterr()
        assert "s3cret" not in out.out + out.err
        return code, json.loads(out.out) if code == 0 else out.err

    path = secret(tmp_path, "s3cret")
    assert run("set", "acme", "--origin", ORIGIN, "--token-file", path)[1]["changed"] is True
    assert run("set", "acme", "--origin", ORIGIN, "--token-file", path)[1]["changed"] is False
    (row,) = run("list")[1]["credentials"]
    assert row == {"provider": "acme", "origin": ORIGIN, "functions": [], "token_file": path, "header": "", "error": ""}
    words = ("set", "acme", "--origin", ORIGIN, "--token-file", path)
    assert run(*words, "--for", "acme.com/*/*", "--for", "acme.com/*")[1]["changed"] is True
    assert run("list")[1]["credentials"][0]["functions"] == ["acme.com/*", "acme.com/*/*"]
    assert run(*words, "--for", "a b")[0] == 2
    assert run("remove", "acme")[1]["removed"] is True
    assert run("remove", "acme")[0] != 0
    assert run("set", "acme", "--origin", "nonsense", "--token-file", path)[0] != 0


@pytest.mark.parametrize("patterns", [(), ("acme.com/*/*",)])
def test_who_names_no_functions_is_warned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], patterns: tuple[str, ...]
) -> None:
    more = [word for pattern in patterns for word in ("--for", pattern)]
    words = ["set", "acme", "--origin", ORIGIN, "--token-file", secret(tmp_path, "one"), *more]
    assert main(["registry", "credential", *words, "--home", str(tmp_path / "home")]) == 0
    assert ("warning:" in capsys.readouterr().err) is not bool(patterns)


def test_a_secret_is_shown_for_its_own_functions_alone(tmp_path: Path) -> None:
    clock, file = FakeClock(), CredentialFile(tmp_path)
    entry = {"origin": ORIGIN, "token_file": secret(tmp_path, "one"), "functions": ["acme.com/*/*", "team/f"]}
    file.set("acme", entry)
    kept = KeptCredentials(file, clock)
    for name in ("acme.com/text/sum", "team/f", None):
        assert kept.headers("acme", ORIGIN, name) == {"Authorization": "Bearer one"}
        assert kept.value("acme", ORIGIN, name) == "one"
    for name in ("evil.com/text/sum", "team/g", "acme.com/x", "acme.com/text/sum/more", ""):
        assert kept.headers("acme", ORIGIN, name) == {}
        assert kept.value("acme", ORIGIN, name) == ""
    assert kept.headers("acme", "https://evil.example/", None) == {}
    file.set("acme", entry | {"header": "X-Key"})
    clock.advance(1.1)
    assert kept.headers("acme", ORIGIN, "team/f") == {"X-Key": "one"}
    assert kept.headers("acme", ORIGIN, "team/g") == {}
