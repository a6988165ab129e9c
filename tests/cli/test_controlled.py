"""What commands ask a controller, what they sign, and how they show its answers."""

from __future__ import annotations

import ast
import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.errors import CheckFailed, Conflict, Denied, FunctionError, NotFound, Unavailable
from osiris_mesh.function.name import qualified
from osiris_mesh.function.signature import Signature
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.identity.token import Token
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import (
    ConfigSet,
    FunctionActivate,
    FunctionPublish,
    MemberRemove,
    TokenCreate,
    TokenRevoke,
    UserAdd,
    read,
)
from osiris_mesh.runtime.bundle import Bundle
from osiris_mesh_cli.values import dumps
from tests.cli.conftest import Line
from tests.cli.fake import MESH_ID, FakeController

PEERS = ["12D3KooWAbcdefghijkLmnopqrstuvwxyzABCDEFGHJKLMNPQRST", "12D3KooWBbcdefghijkLmnopqrstuvwxyzABCDEFGHJKLMNPQRS2"]
STATUS = {
    "mesh_id": MESH_ID.hex(),
    "name": "fake",
    "peer_id": PEERS[0],
    "leader": PEERS[1],
    "term": 3,
    "height": 7,
    "tip": "ab" * 32,
    "quorum": True,
    "members": [
        {"peer_id": PEERS[0], "name": "ada", "state": "alive", "role": "voter", "voter": True},
        {"peer_id": PEERS[1], "name": "grace", "state": "dead", "role": "voter", "voter": False},
    ],
    "functions": [],
}
ACCEPTED = {"accepted": True, "reason": "", "code": ""}


def accept(body: dict[str, Any]) -> dict[str, Any]:
    return {"height": 8, "outcomes": [ACCEPTED for _ in body["entries"]]}


def signed_by(home: Path, fake: FakeController) -> list[Any]:
    """Return the bodies of all submitted entries, each checked to be signed by the home's user."""
    user = KeyPair.load(Home(home).user_key)
    bodies = []
    for method, body in fake.asked:
        if method in {"ledger.submit", "function.deploy"}:
            for data in body["entries"]:
                entry = Entry.parse(data)
                assert entry.holds()
                assert (entry.author, entry.mesh_id) == (user.public, MESH_ID)
                bodies.append(read(entry.kind, entry.body))
    return bodies


def add_function() -> dict[str, Any]:
    node = ast.parse("def add(a: int, b: int = 1) -> int: ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return {
        "name": "math/add",
        "version": "1.0.0",
        "digest": bytes(32),
        "binding": b"b",
        "signature": Signature.from_ast(node).to_wire(),
        "description": "Add.",
        "timeout_ms": 5000,
        "idempotent": False,
    }


def called(name: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args[0] + kwargs.get("b", [*args, 1][1]), {"node": PEERS[0], "version": "1.0.0", "warm": True}


def test_call_prints_only_the_result_on_stdout(line: Line) -> None:
    with FakeController(Home(line.home), {}, functions={"math/add": add_function()}, call=called):
        answer = line("call", "math/add", "2", "-3")
        assert (answer.code, answer.out) == (0, "-1\n"), answer.err
        assert answer.err.startswith("✓ ")
        assert f"node={PEERS[0]} version=1.0.0 warm" in answer.err
        assert line("call", "math/add", "-5", "--kwargs", '{"b": 7}', "--quiet").err == ""
        assert line("call", "math/add", "--args", "[1, 2]", "--json").json == 3
        assert line("call", "math/add", "--timeout", "2s", "--", "4").out == "5\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["math/add"], "missing 1 required positional argument: 'a'"),
        (["math/add", "1", "2", "3"], "takes"),
        (["math/add", "x"], "'a'"),
        (["math/add", "1", "--kwargs", '{"c": 1}'], "unexpected keyword argument 'c'"),
        (["math/add", "--kwargs", "[1]"], "not a JSON object"),
        (["math/add", "--args", "1"], "not a JSON array"),
        (["math/add", "1", "--timeout", "soon"], "not a time"),
    ],
)
def test_arguments_that_do_not_fit_are_usage(line: Line, words: list[str], said: str) -> None:
    with FakeController(Home(line.home), {}, functions={"math/add": add_function()}):
        answer = line("call", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_a_function_that_raised_shows_its_own_traceback(line: Line) -> None:
    def fail(*_: object) -> Any:
        raise FunctionError(
            "ValueError: no luck", type="ValueError", message="no luck", traceback="Traceback …\n  things.py\n"
        )

    with FakeController(Home(line.home), {}, functions={"math/add": add_function()}, call=fail):
        answer = line("call", "math/add", "1")
        assert (answer.code, answer.out) == (1, "")
        assert "things.py" in answer.err
        assert "error: ValueError: no luck" in answer.err
        assert line("call", "math/add", "1", "--json").json["error"]["details"]["type"] == "ValueError"
        assert line("call", "math/none", "1").code == 3


def test_values_of_every_kind_come_back_as_json(line: Line) -> None:
    def echo(_name: str, args: list[Any], _kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args[0], {}

    loose = add_function() | {"signature": Signature.from_wire(add_function()["signature"]).to_wire()}
    loose["signature"] = [[["value", 1, False, ""]], ""]
    with FakeController(Home(line.home), {}, functions={"echo": loose}, call=echo):
        for text in ["null", "true", "-3", "1.5", '"é"', '[1, [2, {"a": null}]]', '{"$bytes": "AAEC/w=="}']:
            assert json.loads(line("call", "echo", text).out) == json.loads(text)


def test_status_for_people_and_programs(line: Line) -> None:
    with FakeController(Home(line.home), {"node.status": lambda _: STATUS}):
        assert line("status", "--json").json == STATUS
        shown = line("status").out
        assert line("member", "list", "--json").json == {"members": STATUS["members"]}
    assert "grace" in shown
    assert "leader   grace" in shown or "leader     grace" in shown
    assert "height 7" in shown


def test_a_controller_of_another_version_is_to_be_restarted(line: Line) -> None:
    def deny(_body: dict[str, Any]) -> dict[str, Any]:
        raise Denied("no permission config.write")

    with FakeController(Home(line.home), {"node.status": deny}):
        older = line("sync")
        own = line("status")
    assert older.code == 6
    assert "another version" in older.err
    assert "osiris-mesh restart" in older.err
    assert own.code == 5
    assert "restart" not in own.err


def test_status_names_every_address_the_node_answers_at(line: Line) -> None:
    on: dict[str, Any] = {"http": "http://127.0.0.1:7480", "grpc": "127.0.0.1:7490", "dns": "127.0.0.1:7453"}
    answers = iter([on, dict.fromkeys(on, None)])
    with FakeController(Home(line.home), {"node.status": lambda _: STATUS | next(answers)}):
        told, silent = (
            dict(row.partition(" ")[::2] for row in line("status").out.partition("\n\n")[0].splitlines())
            for _ in range(2)
        )
    assert {name: told[name].strip() for name in on} == on
    assert (silent["http"].strip(), silent["dns"].strip()) == ("off", "off")
    assert "grpc" not in silent


def test_a_token_is_printed_alone_and_recorded_without_its_secret(line: Line) -> None:
    member = KeyPair.generate()
    address = str(Multiaddr("127.0.0.1", 7411, peer_id(member.public)))
    contact = {"mesh_id": MESH_ID, "name": "fake", "network_key": b"n" * 32, "members": [address]}
    with FakeController(Home(line.home), {"mesh.contact": lambda _: contact, "ledger.submit": accept}) as fake:
        answer = line("token", "create", "--uses", "2", "--ttl", "10m", "--grant", "operator")
        assert answer.code == 0, answer.err
        token = Token.parse(answer.out)
        assert answer.out.count("\n") == 1
        (body,) = signed_by(line.home, fake)
        assert body == TokenCreate(token.key.public, "voter", "operator", 2, token.expires_ms, "")
        for _, asked in fake.asked:
            sent = b"".join(asked.get("entries", []))
            assert token.seed not in sent
            assert b"n" * 32 not in sent
        client = line("token", "create", "--role", "client", "--json").json
        assert {"token", "id", "expires"} <= client.keys()
        assert line("token", "create", "--role", "king").code == 2
        assert line("token", "create", "--name", "a-node").code == 2
        assert line("token", "create", "--ttl", "0s").code == 2
        assert line("token", "create", "--role", "client", "--uses", "2").code == 2
    inspected = line("token", "inspect", token.text(), "--json").json
    assert inspected["members"] == [
        {"peer_id": peer_id(member.public), "public_key": member.public.hex(), "addresses": [address]}
    ]
    assert inspected["mesh_id"] == MESH_ID.hex()
    assert "network_key" not in inspected
    revealed = line("token", "inspect", token.text(), "--reveal", "--json").json
    assert revealed["network_key"] == (b"n" * 32).hex()
    assert token.seed.hex() not in json.dumps(revealed)


def test_a_token_is_revoked_by_the_beginning_of_its_id(line: Line) -> None:
    tokens = [
        {"id": key.hex()[:16], "key": key, "role": "voter", "grant": "none", "uses": 1, "used": 0, "expires": 0}
        | {"issuer": "ada", "revoked": False, "since": 3}
        for key in (b"\xaa" * 32, b"\xab" * 32)
    ]
    methods = {"token.list": lambda _: {"tokens": tokens}, "ledger.submit": accept}
    with FakeController(Home(line.home), methods) as fake:
        assert line("token", "revoke", "a").code == 3
        assert line("token", "revoke", "ffff").code == 3
        assert line("token", "revoke", "aaa").code == 0
        assert signed_by(line.home, fake) == [TokenRevoke(b"\xaa" * 32)]
        listed = line("token", "list", "--json").json["tokens"]
        assert [item["id"] for item in listed] == [item["id"] for item in tokens]
        assert "voter" in line("token", "list").out


def test_a_member_is_removed_by_name_peer_or_end(line: Line) -> None:
    methods = {"node.status": lambda _: STATUS, "ledger.submit": accept}
    with FakeController(Home(line.home), methods) as fake:
        for word in ("grace", PEERS[1], PEERS[1][-8:]):
            assert line("member", "remove", word).code == 0
        assert line("member", "remove", "nobody").code == 3
        assert signed_by(line.home, fake) == [MemberRemove(PEERS[1])] * 3


@pytest.mark.parametrize(
    ("code", "exit_code"), [("role", 5), ("author", 5), ("unknown", 3), ("exists", 2), ("last", 2), ("full", 2)]
)
def test_what_the_ledger_refuses_has_its_exit_code(line: Line, code: str, exit_code: int) -> None:
    def refuse(_body: dict[str, Any]) -> dict[str, Any]:
        return {"height": 8, "outcomes": [{"accepted": False, "reason": "it may not be", "code": code}]}

    with FakeController(Home(line.home), {"ledger.submit": refuse}):
        answer = line("config", "set", "max_retries", "3", "--json")
    assert answer.code == exit_code
    assert answer.json["error"]["what"] == "it may not be"


def test_settings(line: Line) -> None:
    methods = {"ledger.submit": accept, "config.list": lambda _: {"settings": {"max_retries": "3"}}}
    with FakeController(Home(line.home), methods) as fake:
        assert line("config", "set", "max_retries", "3", "--json").json == {
            "key": "max_retries",
            "value": "3",
            "height": 8,
        }
        assert line("config", "get", "max_retries").out == "3\n"
        assert line("config", "get", "other").code == 3
        assert line("config", "get", "log.level", "--json").json["is_set"] is False
        assert line("config", "get", "log.level").out == "info\n"
        listed = line("config", "list", "--json").json
        assert listed["settings"] == {"max_retries": "3"}
        assert {row["key"] for row in listed["known"] if row["is_set"]} == {"max_retries"}
        assert "log.level" in line("config", "list").out
        assert line("config", "reset", "max_retries").code == 0
        assert signed_by(line.home, fake)[0] == ConfigSet("max_retries", "3")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("max_retries", "many"), "max_retries can't be that"),
        (("max_retires", "3"), "did you mean max_retries?"),
        (("log.level", "loud"), "debug, info, warning, error"),
        (("webhook.a.url", "http://example.org/"), "https"),
    ],
)
def test_a_setting_is_checked_before_it_is_signed(line: Line, words: tuple[str, str], said: str) -> None:
    with FakeController(Home(line.home), {"ledger.submit": accept}) as fake:
        answer = line("config", "set", *words)
        assert (answer.code, fake.asked) == (2, [])
    assert said in answer.err


ROLES = [
    {"name": name, "grants": grants, "builtin": True}
    for name, grants in (
        ("viewer", ["function.read", "mesh.read"]),
        ("developer", ["function.call", "function.deploy", "function.read", "mesh.read"]),
        ("operator", ["config.write"]),
    )
]


def test_users(line: Line, tmp_path: Path) -> None:
    users = [{"name": "ada", "role": "admin", "key": b"\x01" * 32, "since": 0}]
    methods = {
        "ledger.submit": accept,
        "user.list": lambda _: {"users": users},
        "role.list": lambda _: {"roles": ROLES},
    }
    with FakeController(Home(line.home), methods) as fake:
        answer = line("user", "add", "johndoe", "--role", "developer")
        assert answer.code == 0, answer.err
        path = line.home / "keys" / "users" / "johndoe.key"
        assert path.stat().st_mode & 0o777 == 0o600
        secret = KeyPair.load(path)
        assert str(path) in answer.out
        assert secret.seed.hex() not in answer.out + answer.err
        given = line("user", "add", "ci", "--key", "02" * 32, "--json").json
        assert "key_file" not in given
        (tmp_path / "ci.pub").write_text("03" * 32 + "\n")
        assert line("user", "add", "ci", "--key", str(tmp_path / "ci.pub"), "--role", "viewer").code == 0
        KeyPair(b"s" * 32).save(tmp_path / "own.key")
        assert line("user", "add", "own", "--key", str(tmp_path / "own.key")).code == 0
        for wrong in ("02", str(tmp_path / "none.pub"), str(tmp_path)):
            assert line("user", "add", "ci", "--key", wrong).code == 2
        assert line("user", "add", "ci", "--role", "king").code == 2
        assert line("user", "add", "../ci").code == 2
        assert line("user", "update", "ada", "--role", "operator").code == 0
        assert line("user", "update", "ada").code == 2
        assert line("user", "update", "nobody", "--role", "viewer").code == 3
        assert line("user", "remove", "ada").code == 0
        assert line("user", "list", "--json").json["users"][0]["key"] == "01" * 32
        bodies = signed_by(line.home, fake)
    assert bodies[:4] == [
        UserAdd(secret.public, "johndoe", "developer"),
        UserAdd(b"\x02" * 32, "ci", "developer"),
        UserAdd(b"\x03" * 32, "ci", "viewer"),
        UserAdd(KeyPair(b"s" * 32).public, "own", "developer"),
    ]


def test_a_user_that_was_refused_leaves_no_key(line: Line) -> None:
    def refuse(_body: dict[str, Any]) -> dict[str, Any]:
        return {"height": 8, "outcomes": [{"accepted": False, "reason": "no", "code": "role"}]}

    methods = {"ledger.submit": refuse, "user.list": lambda _: {"users": []}, "role.list": lambda _: {"roles": ROLES}}
    with FakeController(Home(line.home), methods):
        assert line("user", "add", "johndoe").code == 5
    assert list((line.home / "keys" / "users").iterdir()) == []


def test_a_removed_users_key_is_not_used_again(line: Line) -> None:
    users: list[dict[str, Any]] = []
    methods = {
        "ledger.submit": accept,
        "user.list": lambda _: {"users": users},
        "role.list": lambda _: {"roles": ROLES},
    }
    path = line.home / "keys" / "users" / "johndoe.key"
    with FakeController(Home(line.home), methods):
        assert line("user", "add", "johndoe").code == 0
        first = KeyPair.load(path).public
        users.append({"name": "johndoe", "role": "developer", "key": first, "since": 0})
        assert line("user", "add", "johndoe").code == 2
        assert KeyPair.load(path).public == first
        users.clear()
        assert line("user", "add", "johndoe").code == 0
    assert KeyPair.load(path).public != first


SOURCE = "def add(a: int, b: int = 1) -> int:\n    '''Add.'''\n    return a + b\n"


class Published:
    """Answers of a ledger that remembers the published versions of one function."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.active: str | None = None
        self.gone: set[str] = set()

    def describe(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.versions:
            raise NotFound(f"there is no function {body['name']}")
        return {
            "name": qualified(body["name"]),
            "versions": list(self.versions),
            "active": self.active,
            "instances": 0,
            "description": "Add.",
            "digest": self.versions[self.active] if self.active else None,
            "history": [
                {"version": version, "digest": digest, "published_ms": 0, "deprecated": False}
                for version, digest in self.versions.items()
            ],
        }

    def deploy(self, body: dict[str, Any]) -> dict[str, Any]:
        publish, activate = (read(entry.kind, entry.body) for entry in map(Entry.parse, body["entries"]))
        assert isinstance(publish, FunctionPublish)
        assert isinstance(activate, FunctionActivate)
        if activate.version in self.gone:
            raise Conflict("the ledger refuses it: taken", why="exists")
        self.versions[activate.version] = body["digest"].hex()
        self.active = activate.version
        tests = {"ok": True, "passed": 2, "tests": []}
        return {"height": 9, "outcomes": [ACCEPTED, ACCEPTED], "tests": tests}

    def methods(self) -> dict[str, Any]:
        return {"function.describe": self.describe, "function.deploy": self.deploy, "ledger.submit": accept}


def write(folder: Path, source: str = SOURCE) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "add.py"
    path.write_text(source)
    return str(path)


def test_deploying_publishes_once_and_then_the_next_patch(line: Line, tmp_path: Path) -> None:
    ledger = Published()
    path = write(tmp_path / "math")
    with FakeController(Home(line.home), ledger.methods()) as fake:
        first = line("deploy", path, "--json")
        assert first.code == 0, first.err
        assert first.json["changed"] is True
        assert (first.json["name"], first.json["version"]) == ("math/add", "1.0.0")
        again = line("deploy", path, "--json").json
        assert (again["version"], again["changed"], again["digest"]) == ("1.0.0", False, first.json["digest"])
        assert "unchanged" in line("deploy", path).out
        write(tmp_path / "math", SOURCE.replace("a + b", "b + a"))
        assert line("deploy", path, "--json").json["version"] == "1.0.1"
        assert line("deploy", path, "--version", "1.0.0").code == 2
        assert line("deploy", path, "--version", "2.0.0", "--json").json["version"] == "2.0.0"
        assert len(fake.uploaded) == 3
        bundle = Bundle.parse(fake.uploaded[0])
        bodies = signed_by(line.home, fake)
    assert sha256(fake.uploaded[0]).hexdigest() == first.json["digest"]
    assert bodies[0] == FunctionPublish(bundle.spec.to_wire())
    assert bodies[1] == FunctionActivate("math/add", "1.0.0", bundle.spec.digest)


LOCK = "demo==1.{0} \\\n    --hash=sha256:" + "{0}" * 64 + "\n"


def test_unchanged_code_stays_unchanged_though_a_dependency_was_released_anew(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferred: list[bytes] = []
    newest = "1"

    def lock(_requirements: Any, _python: str, *, prefer: bytes = b"") -> bytes:
        preferred.append(prefer)
        return prefer or LOCK.format(newest).encode()

    monkeypatch.setattr("osiris_mesh.runtime.lock.lock_dependencies", lock)
    ledger = Published()
    source = '# /// script\n# dependencies = ["demo"]\n# ///\n' + SOURCE
    path = write(tmp_path / "math", source)
    with FakeController(Home(line.home), ledger.methods()) as fake:
        first = line("deploy", path, "--json")
        assert first.code == 0, first.err
        newest = "2"
        again = line("deploy", path, "--json").json
        assert (again["changed"], again["digest"]) == (False, first.json["digest"])
        assert preferred == [b"", LOCK.format("1").encode()]
        fake.uploaded.clear()
        # No node has the bundle any longer: a fresh lock does as well.
        assert line("deploy", path, "--json").json["version"] == "1.0.1"
        assert preferred[-1] == b""


LIMITS = {
    "memory": 256 << 20,
    "timeout_ms": 60_000,
    "concurrency": 1,
    "min_instances": 0,
    "max_instances": 4,
    "idle_ms": 300_000,
}


def test_settings_of_a_function_are_a_new_version_with_the_same_code(line: Line, tmp_path: Path) -> None:
    ledger = Published()

    def describe(body: dict[str, Any]) -> dict[str, Any]:
        found = ledger.describe(body)
        spec = Bundle.parse(fake.uploaded[-1]).spec
        return found | {
            "limits": {key: getattr(spec, key) for key in LIMITS},
            "idempotent": spec.idempotent,
            "network": spec.network,
        }

    methods = ledger.methods() | {"function.describe": describe}
    with FakeController(Home(line.home), methods) as fake:
        assert line("deploy", write(tmp_path / "math")).code == 0
        for key, value in {"timeout": "1500ms", "memory": "64MiB", "max": "2", "idempotent": "true"}.items():
            done = line("config", "set", key, value, "--function", "math/add", "--json")
            assert done.code == 0, done.err
        first, last = Bundle.parse(fake.uploaded[0]), Bundle.parse(fake.uploaded[-1])
        assert (last.spec.version, last.spec.timeout_ms, last.spec.memory) == ("1.0.4", 1500, 64 << 20)
        assert (last.spec.max_instances, last.spec.idempotent) == (2, True)
        assert last.files == first.files
        assert line("config", "get", "timeout", "--function", "math/add").out == "1.5s\n"
        listed = {row["key"]: row for row in line("config", "list", "--function", "math/add", "--json").json["known"]}
        assert (listed["memory"]["value"], listed["memory"]["default"]) == ("64MiB", "256MiB")
        assert {key for key, row in listed.items() if row["is_set"]} == {"timeout", "memory", "max", "idempotent"}
        again = line("config", "set", "max", "2", "--function", "math/add", "--json").json
        assert (again["changed"], again["version"]) == (False, "1.0.4")
        assert line("config", "reset", "max", "--function", "math/add", "--json").json["value"] == "4"
        assert line("config", "reset", "--function", "math/add").code == 0
        assert Bundle.parse(fake.uploaded[-1]).spec.timeout_ms == first.spec.timeout_ms
        for key, value, code in (("timeout", "soon", 2), ("max", "many", 2), ("idempotent", "1", 2), ("speed", "1", 3)):
            assert line("config", "set", key, value, "--function", "math/add").code == code
        assert line("config", "set", "max", "0", "--function", "math/add").code == 2
        assert line("config", "get", "speed", "--function", "math/add").code == 3


def test_numbers_of_a_removed_function_are_passed_over(line: Line, tmp_path: Path) -> None:
    ledger = Published()
    ledger.gone = {"1.0.0", "1.0.1"}
    with FakeController(Home(line.home), ledger.methods()):
        answer = line("deploy", write(tmp_path / "math"), "--json")
        assert answer.json["version"] == "1.0.2", answer.err
        assert line("deploy", write(tmp_path / "math"), "--version", "1.0.0").code == 2


def test_the_promised_forms_of_deploy_and_update(line: Line, tmp_path: Path) -> None:
    ledger = Published()
    path = write(tmp_path / "functions")
    with FakeController(Home(line.home), ledger.methods()) as fake:
        made = line("deploy", path, "--name", "addNumbers", "--runtime", "python3.11", "--json")
        assert made.code == 0, made.err
        assert made.json["name"] == "default/addNumbers"
        write(tmp_path / "functions", SOURCE.replace("1", "2"))
        updated = line("update", "addNumbers", path, "--memory", "64MiB", "--json").json
        assert (updated["name"], updated["version"]) == ("default/addNumbers", "1.0.1")
        assert {"versions", "active", "instances"} <= updated.keys()
        assert Bundle.parse(fake.uploaded[1]).spec.memory == 64 << 20
        assert line("rollback", "addNumbers", "--json").json["active"] == "1.0.0"
        assert line("rollback", "addNumbers", "--to", "9.9.9").code == 3
        removed = line("remove", "addNumbers", "--json").json
        assert (removed["versions"], removed["active"]) == ([], None)
        assert "default/addNumbers" in line("describe", "addNumbers").out


def test_update_of_what_is_not_there(line: Line, tmp_path: Path) -> None:
    with FakeController(Home(line.home), Published().methods()):
        answer = line("update", "addNumbers", write(tmp_path / "functions"))
    assert answer.code == 3
    assert "default/addNumbers" in answer.err


def test_a_failed_test_is_named_and_is_1(line: Line, tmp_path: Path) -> None:
    ledger = Published()

    def deploy(_body: dict[str, Any]) -> dict[str, Any]:
        results = [{"name": "two and three", "ok": False, "expected": "5", "got": "6"}]
        raise CheckFailed("math/add failed its tests", tests={"ok": False, "results": results})

    with FakeController(Home(line.home), ledger.methods() | {"function.deploy": deploy}):
        answer = line("deploy", write(tmp_path / "math"))
    assert (answer.code, answer.out) == (1, "")
    assert "failed: two and three: expected 5, got 6" in answer.err


def test_several_functions_are_deployed_together(line: Line, tmp_path: Path) -> None:
    source = SOURCE + "\n\ndef twice(a: int) -> int:\n    return 2 * a\n"
    described: dict[str, Published] = {}

    def of(name: str) -> Published:
        return described.setdefault(name, Published())

    def deploy(body: dict[str, Any]) -> dict[str, Any]:
        activate = read("function.activate", Entry.parse(body["entries"][1]).body)
        assert isinstance(activate, FunctionActivate)
        return of(activate.name).deploy(body)

    methods = {"function.describe": lambda body: of(body["name"]).describe(body), "function.deploy": deploy}
    with FakeController(Home(line.home), methods):
        answer = line("deploy", write(tmp_path / "math", source), "--json").json
        assert [item["name"] for item in answer["functions"]] == ["math/add", "math/twice"]
        assert answer["changed"] is True
        one = line("deploy", write(tmp_path / "math", source) + "::twice", "--json").json
        assert (one["name"], one["changed"]) == ("math/twice", False)
        updated = line("update", "math/twice", write(tmp_path / "math", source.replace("2 *", "a +")), "--json").json
        assert (updated["name"], updated["version"]) == ("math/twice", "1.0.1")


def test_deploying_what_is_not_there_or_not_python(line: Line, tmp_path: Path) -> None:
    with FakeController(Home(line.home), Published().methods()):
        assert line("deploy", str(tmp_path / "none.py")).code == 3
        (tmp_path / "bad.py").write_text("def f(:\n")
        broken = line("deploy", str(tmp_path / "bad.py"))
        assert broken.code == 2
        assert "line 1" in broken.err


def test_logs(line: Line) -> None:
    items = [
        {"function": "math/add", "time_ms": 1, "stream": "out", "text": "one\x1b[2J"},
        {"function": "math/add", "time_ms": 2, "stream": "err", "text": "two"},
    ]
    with FakeController(Home(line.home), {}, logs=items) as fake:
        shown = line("logs", "math/add").out
        assert line("logs", "math/add", "--search", "tw", "--json").json == {"lines": items[1:]}
        assert line("logs", "math/add", "--tail", "--lines", "5", "--since", "10m").out == shown
        assert line("logs", "--tail", "--json").code == 2
        asked = [body for method, body in fake.asked if method == "function.logs"]
    assert "math/add err: two" in shown
    assert "\x1b" not in shown
    assert (asked[-1]["follow"], asked[-1]["tail"]) == (True, 5)
    assert asked[-1]["since_ms"] > 0


ENTRY = {
    "height": 1,
    "index": 1,
    "hash": "cd" * 32,
    "accepted": True,
    "code": "",
    "reason": "",
    "kind": "config.set",
    "author": "ef" * 32,
    "author_name": "ada",
    "time_ms": 0,
    "summary": "max_retries = 3",
}
BLOCK = {"height": 1, "hash": "ab" * 32, "previous": "00" * 32, "entries": [ENTRY]}


def test_the_ledger(line: Line) -> None:
    good = {"valid": True, "height": 1, "tip": "ab" * 32, "entries": 2, "problems": []}
    methods: dict[str, Any] = {
        "node.status": lambda _: STATUS,
        "ledger.log": lambda _: {"blocks": [BLOCK]},
        "ledger.show": lambda _: BLOCK | {"entries": [ENTRY | {"body": {"key": "max_retries", "value": "3"}}]},
        "ledger.verify": lambda _: good,
    }
    with FakeController(Home(line.home), methods) as fake:
        log = line("ledger", "log", "--json").json
        assert (log["height"], log["tip"], log["entries"]) == (7, "ab" * 32, [ENTRY])
        assert "max_retries = 3" in line("ledger", "log", "--from", "1", "-n", "1").out
        assert [body for method, body in fake.asked if method == "ledger.log"] == [
            {"from": 0, "limit": 20},
            {"from": 1, "limit": 1},
        ]
        shown = line("ledger", "show", "1").out
        assert line("ledger", "verify", "--json").json == good | {"offline": False}
        assert line("ledger", "verify").out.startswith("valid")
    assert "config.set" in shown
    assert "value" in shown


def test_a_ledger_that_does_not_hold_is_1(line: Line) -> None:
    bad = {
        "valid": False,
        "height": 4,
        "tip": "ab" * 32,
        "entries": 2,
        "problems": ["block 3: its hash is not its own"],
    }
    with FakeController(Home(line.home), {"ledger.verify": lambda _: bad}):
        answer = line("ledger", "verify")
        assert answer.code == 1
        assert "block 3" in answer.out
        assert line("ledger", "verify", "--json").code == 1


def test_doctor_is_1_when_something_is_wrong(line: Line) -> None:
    checks = [{"name": "quorum", "ok": False, "detail": "no majority", "fix": "start the others"}]
    with FakeController(
        Home(line.home), {"node.doctor": lambda _: {"checks": checks}, "node.status": lambda _: STATUS}
    ):
        answer = line("doctor")
        assert answer.code == 1
        assert "start the others" in answer.out
        assert line("doctor", "--json").json["checks"][-1] == checks[0]
    assert line("doctor").code == 1


def test_what_the_controller_refuses_reaches_the_terminal_as_it_is(line: Line) -> None:
    def refuse(_body: dict[str, Any]) -> dict[str, Any]:
        raise Unavailable("no majority of the voters can be reached", fix="start the controllers that are down")

    with FakeController(Home(line.home), {"ledger.submit": refuse}):
        answer = line("config", "set", "max_retries", "1")
    assert (answer.code, answer.err) == (
        6,
        "error: no majority of the voters can be reached\n  fix: start the controllers that are down\n",
    )


def test_bytes_of_a_result_are_base64(line: Line) -> None:
    def picture(*_: object) -> tuple[Any, dict[str, Any]]:
        return b"\x89PNG", {}

    with FakeController(Home(line.home), {}, functions={"math/add": add_function()}, call=picture):
        answer = line("call", "math/add", "1")
    assert json.loads(answer.out) == {"$bytes": base64.b64encode(b"\x89PNG").decode()}
    assert answer.out == dumps(b"\x89PNG") + "\n"
