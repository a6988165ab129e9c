"""Keys made, named and signed with offline, by one keeper and by several."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import Unavailable
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.domain import Proof, claim
from osiris_mesh_cli import registry_keys
from tests.cli.conftest import Line


def made(line: Line, *names: str) -> dict[str, str]:
    return {name: line("registry", "keys", "create", name, "--json").json["public"] for name in names}


def ok(line: Line, *words: str) -> Any:
    answer = line("registry", *words, "--json")
    assert answer.code == 0, answer.err
    return answer.json


def test_a_key_is_a_private_file_and_its_secret_is_shown_when_asked_alone(line: Line) -> None:
    quiet = line("registry", "keys", "create", "ci", "--json")
    path = line.home / "keys" / "registry" / "ci.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().strip()
    assert secret not in quiet.out + quiet.err
    shown = line("registry", "keys", "create", "ci2", "--show")
    assert shown.out.strip() == (line.home / "keys" / "registry" / "ci2.key").read_text().strip()
    assert line("registry", "keys", "create", "ci").code == 2
    assert line("registry", "keys", "create", "../ci").code == 2
    listed = line("registry", "keys", "list", "--json")
    assert [one["name"] for one in listed.json["keys"]] == ["ci", "ci2"]
    assert listed.json["keys"][0]["public"] == KeyPair.load(path).public.hex()
    assert secret not in listed.out


def test_a_team_of_three_keeps_a_root_of_two(line: Line, tmp_path: Path, source: Path) -> None:
    keys = made(line, "anna", "ben", "carl", "acme", "ci")
    root, vendor, url = tmp_path / "root.json", tmp_path / "vendor.json", f"file://{tmp_path}/registry"
    said = ok(
        line, "keys", "root", "--key", "anna", "--with", keys["ben"], "--with", "carl", "--threshold", "2",
        "--delegate", f"acme.com={keys['acme']}", "--delegate", "_=acme", "--checkpoint-key", "ci", "--expires", "90d",
        "--out", str(root),
    )  # fmt: skip
    assert sorted(said["keys"]) == sorted([keys["anna"], keys["ben"], keys["carl"]])
    assert said["signed_by"] == [keys["anna"]]
    ok(line, "keys", "vendor", "acme.com", "--key", "acme", "--publisher", "ci=math", "--out", str(vendor))
    publish = ("registry", "keys", "publish", str(root), str(vendor), "--to", url, "--key", "acme", "--name", "team")
    early = line(*publish)
    assert early.code != 0
    assert not (tmp_path / "registry" / "root.json").exists()
    # Two sign apart, and the files meet.
    apart = tmp_path / "apart.json"
    ok(line, "keys", "sign", str(root), "--key", "ben", "--out", str(apart))
    assert len(ok(line, "keys", "sign", str(root), "--merge", str(apart))["signed_by"]) == 2
    begun = line(*publish, "--json")
    assert begun.code == 0, begun.err
    assert (begun.json["begun"], begun.json["root"]) == (True, said["statement"])
    again = line(*publish, "--json")
    assert (again.code, again.json["changed"]) == (0, False)
    shown = ok(line, "keys", "show", url)
    assert (shown["pin"], shown["threshold"], shown["version"]) == (said["statement"], 2, 1)
    assert ok(line, "keys", "show", str(root))["statement"] == said["statement"]

    ci = ("registry", "publish", str(source), "--to", url, "--key", "ci")
    assert line(*ci, "--namespace", "acme.com/math").code == 0
    assert line(*ci, "--namespace", "acme.com/other").code == 5

    after = tmp_path / "next.json"
    words = ("keys", "root", "--at", url, "--key", "anna", "--key", "carl", "--drop", "ben", "--threshold", "2")
    second = ok(line, *words, "--undelegate", "_", "--revoke-key", keys["ben"], "--out", str(after))
    assert (second["version"], second["threshold"], len(second["keys"])) == (2, 2, 2)
    assert second["revoked_keys"] == [keys["ben"]]
    assert second["delegations"].keys() == {"acme.com"}
    assert ok(line, "keys", "publish", str(after), "--to", url, "--key", "acme")["changed"] is True
    assert ok(line, "keys", "show", url)["version"] == 2


def test_a_publisher_s_key_goes_and_what_it_said_is_looked_at(
    line: Line, url: str, source: Path, tmp_path: Path
) -> None:
    made(line, "ci", "ci2")
    out = str(tmp_path / "keys.json")
    to = ("--to", url)
    ok(line, "keys", "vendor", "_", "--at", url, "--key", "owner", "--publisher", "ci=math,text", "--out", out)
    ok(line, "keys", "publish", out, *to, "--key", "owner")
    for version in ("1.0.0", "1.0.1"):
        ok(line, "publish", str(source), "--version", version, *to, "--key", "ci")
    history = (Path(url.removeprefix("file://")) / "ns" / "_" / "math" / "add.jsonl").read_bytes().splitlines()
    forged = ok(line, "keys", "show", _file(tmp_path, history[1]))["statement"]
    said = ok(
        line, "keys", "vendor", "_", "--at", url, "--key", "owner", "--publisher", "ci2=math", "--revoke-key", "ci",
        "--revoke-record", forged, "--out", out,
    )  # fmt: skip
    assert said["revoked_records"] == [forged]
    assert len(said["publishers"]) == 1
    refused = line("registry", "keys", "publish", out, *to, "--key", "owner", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (5, "denied")
    ok(line, "keys", "publish", out, *to, "--key", "owner", "--renew")
    assert line("registry", "publish", str(source), *to, "--key", "ci", "--version", "3.0.0").code == 5
    after = ok(line, "publish", str(source), *to, "--key", "ci2")
    assert (after["version"], after["changed"]) == ("1.0.0", False)
    # The number of a revoked version stays used up.
    source.write_text(source.read_text() + "# more\n")
    assert ok(line, "publish", str(source), *to, "--key", "ci2")["version"] == "1.0.2"


def _file(folder: Path, data: bytes) -> str:
    path = folder / "one.json"
    path.write_bytes(data + b"\n")
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ("root",),
        ("root", "--key", "none"),
        ("root", "--key", "owner", "--threshold", "2"),
        ("root", "--key", "owner", "--drop", "owner"),
        ("root", "--key", "owner", "--delegate", "acme.com"),
        ("root", "--key", "owner", "--delegate", "acme.com=owner:x"),
        ("root", "--key", "owner", "--delegate", "nodomain=owner"),
        ("root", "--key", "owner", "--from", "/none"),
        ("vendor", "nodomain", "--key", "owner"),
        ("vendor", "_", "--key", "owner", "--revoke-record", "short"),
        ("vendor", "_", "--key", "owner", "--publisher", "owner"),
        ("sign", "/none", "--key", "owner"),
        ("publish", "/none", "--to", "/tmp/none", "--key", "owner"),
        ("domain", "nodot", "--key", "owner"),
        ("domain", "acme.com", "--offline"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(line: Line, words: tuple[str, ...], tmp_path: Path) -> None:
    made(line, "owner")
    out = tmp_path / "out.json"
    more = ("--out", str(out)) if words[0] in {"root", "vendor", "sign"} else ()
    answer = line("registry", "keys", *words, *more)
    assert answer.code in {2, 3}
    assert answer.err.startswith("error: ")
    assert not out.exists()


def test_a_tampered_statement_is_not_signed(line: Line, tmp_path: Path) -> None:
    made(line, "anna", "ben")
    path = tmp_path / "root.json"
    ok(line, "keys", "root", "--key", "anna", "--with", "ben", "--threshold", "2", "--out", str(path))
    path.write_text(path.read_text().replace('"threshold":2', '"threshold":1'))
    answer = line("registry", "keys", "sign", str(path), "--key", "ben")
    assert answer.code == 2
    assert "signature" in answer.err


class _Asked:
    def __init__(self, *keys: bytes, fails: bool = False) -> None:
        self._keys, self._fails = keys, fails

    async def ask(self, vendor: str, key: bytes | None = None) -> Proof:
        if self._fails:
            raise Unavailable(f"{vendor} could not be asked")
        return Proof(vendor, self._keys, "dns" if key else "well-known", FakeClock().time_ms())


def test_what_a_domain_must_say_and_whether_it_does(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    public = bytes.fromhex(made(line, "acme")["acme"])
    told = ok(line, "keys", "domain", "acme.com", "--key", "acme", "--offline")
    assert told["txt"] == {"name": "_osiris.acme.com.", "text": claim(public)}
    assert told["well_known"]["url"] == "https://acme.com/.well-known/osiris-registry"
    assert told["proven"] is None
    monkeypatch.setattr(registry_keys, "asker", lambda: _Asked(public))
    assert ok(line, "keys", "domain", "acme.com", "--key", public.hex())["proven"] is True
    assert ok(line, "keys", "domain", "acme.com")["found"] == [public.hex()]
    monkeypatch.setattr(registry_keys, "asker", lambda: _Asked(bytes(32)))
    answer = line("registry", "keys", "domain", "acme.com", "--key", "acme")
    assert answer.code == 1
    assert claim(public) in answer.out
    monkeypatch.setattr(registry_keys, "asker", lambda: _Asked(fails=True))
    assert line("registry", "keys", "domain", "acme.com", "--key", "acme").code == 6
    assert json.loads(line("registry", "keys", "domain", "acme.com", "--json").out)["error"]["code"] == "unavailable"
