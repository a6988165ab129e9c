"""Publishing without a controller: what is said, what it exits with, what is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.domain import Proof
from osiris_mesh_cli import registry_place
from tests.cli.conftest import Line


def test_a_registry_begins_with_one_command(line: Line, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/registry"
    answer = line("registry", "init", "--to", url, "--name", "team", "--vendor", "acme.com", "--json")
    assert answer.code == 0, answer.err
    value = answer.json
    assert value["vendors"] == ["_", "acme.com"]
    assert value["pin"] in answer.err
    assert value["made"] is True
    key = line.home / "keys" / "registry" / "owner.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert KeyPair.load(key).public.hex() == value["public"]
    assert key.read_text().strip() not in answer.out + answer.err
    again = line("registry", "init", "--to", url)
    assert again.code == 2
    assert "registry" in again.err


def test_publishing_twice_changes_nothing_and_other_code_is_a_conflict(line: Line, url: str, source: Path) -> None:
    words = ("registry", "publish", str(source), "--to", url, "--key", "owner", "--version", "1.2.3", "--json")
    first = line(*words)
    assert first.code == 0, first.err
    assert (first.json["name"], first.json["version"], first.json["changed"]) == ("math/add", "1.2.3", True)
    assert first.json["record"]["digest"] == first.json["digest"]
    assert first.json["providers"] == []
    again = line(*words)
    assert (again.code, again.json["changed"], again.json["digest"]) == (0, False, first.json["digest"])
    source.write_text(source.read_text() + "\n# other\n")
    other = line(*words)
    assert other.code == 2
    assert other.json["error"]["code"] == "conflict"
    unnamed = line("registry", "publish", str(source), "--to", url, "--key", "owner", "--json")
    assert (unnamed.code, unnamed.json["version"], unnamed.json["changed"]) == (0, "1.2.4", True)
    same = line("registry", "publish", str(source), "--to", url, "--key", "owner", "--json")
    assert (same.json["version"], same.json["changed"]) == ("1.2.4", False)


def test_all_that_a_record_can_say(line: Line, url: str, source: Path) -> None:
    answer = line(
        "registry", "publish", f"{source}::add", "--to", url, "--key", "owner", "--namespace", "acme.com/math",
        "--provider", "eu=https://eu.example.com/v1/call/{name}", "--cost", "12", "--currency", "EUR", "--region", "eu",
        "--require-level", "full", "--require-permission", "net", "--trust-provider", "eu*",
        "--scope", "regional", "--ttl", "10m", "--valid-for", "30d", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    record = answer.json["record"]
    assert record["name"] == "acme.com/math/add"
    assert record["requirements"] == {"level": "full", "permissions": ["net"], "trusted_providers": ["eu*"]}
    assert (record["scope"], record["ttl_s"]) == ("regional", 600)
    assert record["valid_until_ms"] - record["valid_from_ms"] == 30 * 86_400_000
    assert record["providers"][0]["cost_micros"] == 12


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--version", "v1"), "version"),
        (("--provider", "nonsense"), "provider"),
        (("--cost", "5"), "provider"),
        (("--ttl", "0s"), "--ttl"),
        (("--scope", "galactic"), "scope"),
        (("--require-level", "none"), "level"),
        (("--key-file", "/nowhere"), "--key-file"),
        (("--pin", "short"), "digest"),
    ],
)
def test_wrong_arguments_are_2(line: Line, url: str, source: Path, more: tuple[str, ...], said: str) -> None:
    answer = line("registry", "publish", str(source), "--to", url, "--key", "owner", *more)
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("content", [None, "def broken(:\n", "x = 1\n"])
def test_a_function_that_is_none_is_2(line: Line, url: str, source: Path, content: str | None) -> None:
    if content is None:
        source.unlink()
    else:
        source.write_text(content)
    assert line("registry", "publish", str(source), "--to", url, "--key", "owner").code == 2


def test_who_may_not_is_5_who_is_not_there_6_and_no_registry_3(
    line: Line, url: str, source: Path, tmp_path: Path
) -> None:
    line("registry", "keys", "create", "stranger")
    stranger = line("registry", "publish", str(source), "--to", url, "--key", "stranger", "--json")
    assert (stranger.code, stranger.json["error"]["code"]) == (5, "denied")
    assert line("registry", "publish", str(source), "--to", f"file://{tmp_path}/none", "--key", "owner").code == 6
    (tmp_path / "empty").mkdir()
    nothing = line("registry", "publish", str(source), "--to", f"file://{tmp_path}/empty", "--key", "owner")
    assert nothing.code == 3
    assert "registry init" in nothing.err
    assert line("registry", "publish", str(source), "--to", "team", "--key", "owner").code == 3


def test_the_key_is_named_or_a_file_or_the_environment_s_or_the_home_s(
    line: Line, url: str, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner = line.home / "keys" / "registry" / "owner.key"
    words = ("registry", "publish", str(source), "--to", url)
    none = line(*words)
    assert none.code == 3
    assert "keys create" in none.err
    monkeypatch.setenv("OSIRIS_SIGNING_KEY", "")
    empty = line(*words)
    assert (empty.code, "OSIRIS_SIGNING_KEY is empty" in empty.err) == (2, True)
    monkeypatch.setenv("OSIRIS_SIGNING_KEY", "not a key at all")
    wrong = line(*words)
    assert wrong.code == 2
    assert "not a key at all" not in wrong.err
    monkeypatch.setenv("OSIRIS_SIGNING_KEY", owner.read_text())
    assert line(*words, "--version", "1.0.1").code == 0
    monkeypatch.delenv("OSIRIS_SIGNING_KEY")
    assert line(*words, "--version", "1.0.2", "--key-file", str(owner)).code == 0
    open_to_all = tmp_path / "open.key"
    open_to_all.write_text(owner.read_text())
    open_to_all.chmod(0o644)
    assert line(*words, "--key-file", str(open_to_all)).code == 2
    (line.home / "keys").mkdir(exist_ok=True)
    KeyPair.load(owner).save(line.home / "keys" / "user.key")
    assert line(*words, "--version", "1.0.3").code == 0
    assert line(*words, "--key", "owner", "--key-file", str(owner)).code == 2


def test_a_dry_run_takes_no_key_and_writes_nothing(line: Line, url: str, source: Path) -> None:
    folder = Path(url.removeprefix("file://"))
    before = (folder / "checkpoint").read_bytes()
    answer = line("registry", "publish", str(source), "--to", url, "--dry-run", "--json")
    assert (answer.code, answer.json["changed"], answer.json["version"]) == (0, True, "1.0.0")
    assert (folder / "checkpoint").read_bytes() == before
    assert not (folder / "ns" / "_" / "math").exists()


def test_a_wrong_pin_is_not_believed(line: Line, url: str, source: Path) -> None:
    answer = line("registry", "publish", str(source), "--to", url, "--key", "owner", "--pin", "ab" * 32)
    assert answer.code == 1
    assert "pinned" in answer.err


def test_the_first_root_seen_is_said_and_kept(line: Line, url: str, source: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "elsewhere"
    key = line.home / "keys" / "registry" / "owner.key"
    words = ("registry", "publish", str(source), "--to", url, "--key-file", str(key), "--home", str(fresh))
    first = line(*words)
    assert first.code == 0, first.err
    assert "is believed from now on" in first.err
    assert "is believed from now on" not in line(*words).err
    assert not any("registry.json" in item.name for item in fresh.iterdir())


def test_an_older_state_is_refused_on_the_next_run(line: Line, url: str, source: Path, tmp_path: Path) -> None:
    folder = Path(url.removeprefix("file://"))
    publish = ("registry", "publish", str(source), "--to", url, "--key", "owner")
    assert line(*publish).code == 0
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert line("registry", "deprecate", "math/add@1.0.0", "stolen key", "--to", url, "--key", "owner").code == 0
    for path, data in kept.items():
        path.write_bytes(data)
    answer = line(*publish, "--version", "2.0.0")
    assert answer.code == 1
    assert "went back" in answer.err
    assert {path: path.read_bytes() for path in kept} == kept


def test_deprecation_labels_and_providers(line: Line, url: str, source: Path) -> None:
    to = ("--to", url, "--key", "owner", "--json")
    for version in ("1.0.0", "1.1.0"):
        assert line("registry", "publish", str(source), "--version", version, *to).code == 0
    gone = line("registry", "deprecate", "math/add@1.0.0", "use 1.1.0", *to)
    assert (gone.code, gone.json["changed"], gone.json["deprecated"]) == (0, True, "use 1.1.0")
    assert line("registry", "deprecate", "math/add@1.0.0", "use 1.1.0", *to).json["changed"] is False
    assert line("registry", "deprecate", "math/add@1.0.0", "--undo", *to).json["deprecated"] is None
    assert line("registry", "deprecate", "math/add@1.0.0", *to).code == 2
    assert line("registry", "deprecate", "math/add", "why", *to).code == 2
    assert line("registry", "deprecate", "math/add@9.0.0", "why", *to).code == 2
    assert line("registry", "deprecate", "math/none@1.0.0", "why", *to).code == 3
    named = line("registry", "alias", "math/add", "stable=1.0.0", "next=1.1.0", *to)
    assert named.json["aliases"] == {"next": "1.1.0", "stable": "1.0.0"}
    assert line("registry", "alias", "math/add", "next=", *to).json["aliases"] == {"stable": "1.0.0"}
    assert line("registry", "alias", "math/add", "nonsense", *to).code == 2
    run = line("registry", "providers", "math/add@1.1.0", "--provider", "https://a.example/v1/call/{name}", *to)
    assert (run.code, run.json["providers"][0]["id"]) == (0, "a.example")
    assert line("registry", "providers", "math/add@1.1.0", "--none", *to).json["providers"] == []
    assert line("registry", "providers", "math/add@1.1.0", *to).code == 2


def test_a_checkpoint_is_signed_anew(line: Line, url: str) -> None:
    before = line("registry", "keys", "show", url, "--json").json["checkpoint"]
    assert line("registry", "renew", "--to", url, "--key", "owner").code == 0
    assert line("registry", "keys", "show", url, "--json").json["checkpoint"] == before + 1


def test_a_registry_by_its_name_in_the_home_s_list(line: Line, url: str, source: Path) -> None:
    pin = line("registry", "keys", "show", url, "--json").json["pin"]
    added = line("registry", "add", "team", url, "--pin", pin, "--json")
    assert (added.code, added.json["pin"], added.json["changed"]) == (0, pin, True)
    assert line("registry", "add", "team", url, "--pin", pin, "--json").json["changed"] is False
    answer = line("registry", "publish", str(source), "--to", "team", "--key", "owner", "--json")
    assert (answer.code, answer.json["source"]) == (0, url)


def test_the_list_of_a_home_without_a_controller(line: Line, url: str, tmp_path: Path) -> None:
    shown = line("registry", "add", "team", url, "--route", "math/*")
    assert shown.code == 0, shown.err
    assert "ask the registry's owner" in shown.err
    other = f"file://{tmp_path}/other"
    line("registry", "init", "--to", other)
    assert line("registry", "add", "other", other, "--first").code == 0
    listed = line("registry", "list", "--json").json["registries"]
    assert [one["name"] for one in listed] == ["other", "team"]
    assert "math/*" in line("registry", "list").out
    assert line("registry", "order", "team").out.strip() == "team other"
    assert line("registry", "order", "none").code == 3
    assert line("registry", "remove", "other").code == 0
    assert [one["name"] for one in line("registry", "list", "--json").json["registries"]] == ["team"]
    assert line("registry", "add", "team", other).code == 2
    assert line("registry", "add", "lost", f"file://{tmp_path}/none").code == 6
    assert line("registry", "add", "mesh", "ledger:").code == 6
    assert line("registry", "sync").code == 6


def test_a_damaged_list_is_said_and_not_overwritten(line: Line, url: str) -> None:
    line("registry", "add", "team", url)
    path = line.home / "registries.json"
    path.write_text("{}")
    assert line("registry", "list").code == 2
    assert line("registry", "add", "team", url).code == 2
    assert path.read_text() == "{}"


def test_damaged_memory_is_never_taken_for_none(line: Line, url: str, source: Path) -> None:
    publish = ("registry", "publish", str(source), "--to", url, "--key", "owner")
    assert line(*publish).code == 0
    (kept,) = (line.home / "registries" / "cli").glob("*/trust")
    kept.write_bytes(b"damaged")
    answer = line(*publish)
    assert answer.code == 2
    assert str(kept) in answer.err


class _Asked:
    """Stands for the network: a domain that names one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    async def ask(self, vendor: str, key: bytes | None = None) -> Proof:
        del key
        return Proof(vendor, (self._key,), "dns", 0)


def test_a_vendor_without_a_delegation_is_proven_by_his_domain(
    line: Line, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/registry"
    public = line("registry", "keys", "create", "acme", "--json").json["public"]
    vendor = tmp_path / "vendor.json"
    assert line("registry", "keys", "vendor", "acme.com", "--key", "acme", "--out", str(vendor)).code == 0
    monkeypatch.setattr(registry_place, "asker", lambda: _Asked(bytes.fromhex(public)))
    line("registry", "init", "--to", url)
    founded = line("registry", "keys", "publish", str(vendor), "--to", url, "--key", "owner")
    assert founded.code == 0, founded.err
    words = ("registry", "publish", str(source), "--to", url, "--key", "acme", "--namespace", "acme.com/math")
    assert line(*words).code == 0
    monkeypatch.setattr(registry_place, "asker", lambda: _Asked(bytes(32)))
    key = line.home / "keys" / "registry" / "acme.key"
    fresh = line(*words[:5], "--key-file", str(key), *words[7:], "--home", str(tmp_path / "fresh"), "--json")
    # What he published last is not believed at all where nobody proves him.
    assert (fresh.code, fresh.json["error"]["details"]["reason"]) == (1, "threshold")
