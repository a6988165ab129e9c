"""Deploying from programs: over the Unix socket, a client's link and HTTP, blocking and awaited."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import CheckFailed, Conflict, Denied, NotFound, RemoteProtocolError, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import FunctionActivate, FunctionPublish, FunctionRemove, read
from osiris_sdk import AsyncMesh, Deployed, Mesh
from osiris_sdk.deploying import LinkDeploying
from osiris_sdk.signing import Signer
from osiris_sdk.sources import read_source
from tests.sdk.gateways import Gateway, gateway

WAYS = ("home", "client", "http")
STEP = "def step() -> int:\n    return {}\n"


@pytest.fixture(scope="module")
def face() -> Iterator[Gateway]:
    with gateway() as found:
        yield found


@pytest.fixture(scope="module")
def target(face: Gateway) -> Callable[[str], dict[str, Any]]:
    token = face.node.run("token", "create", "--role", "client", "--grant", "developer").out.strip()
    places: dict[str, dict[str, Any]] = {
        "home": {"home": face.node.home},
        "client": {"target": token},
        "http": {"target": face.url, "token": face.admin},
    }
    return lambda way: places[way]


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.system
@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_deployed_updated_rolled_back_and_removed(
    way: str, target: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    file = write(tmp_path / f"sync-{way}", "step.py", STEP.format(1))
    name = f"sync-{way}/step"
    with Mesh.connect(**target(way)) as mesh:
        (first,) = mesh.deploy(file, timeout=2, memory="128MiB")
        assert (first.name, first.version, first.changed) == (name, "1.0.0", True)
        assert first.tests is not None
        assert first.tests["ok"] is True
        assert mesh.call(name) == 1
        assert mesh.describe(name)["limits"].items() >= {"timeout_ms": 2000, "memory": 128 << 20}.items()
        (again,) = mesh.deploy(file, timeout=2, memory="128MiB")
        assert again == Deployed(name, "1.0.0", first.digest, changed=False)
        file.write_text(STEP.format(2), "utf-8")
        assert mesh.update(name, file).version == "1.0.1"
        assert mesh.call(name) == 2
        assert name in [row["name"] for row in mesh.list()]
        with pytest.raises(Conflict, match="other code"):
            mesh.deploy(file, version="1.0.0")
        assert mesh.rollback(name) == "1.0.0"
        assert mesh.call(name) == 1
        with pytest.raises(Conflict):
            mesh.rollback(name)
        with pytest.raises(NotFound):
            mesh.rollback(name, to="9.0.0")
        mesh.remove(name, version="1.0.1")
        mesh.remove(name)
        with pytest.raises(NotFound):
            mesh.describe(name)
        with pytest.raises(NotFound):
            mesh.remove(name)
        with pytest.raises(NotFound):
            mesh.update(name, file)
        # The removed function's numbers stay taken.
        file.write_text(STEP.format(3), "utf-8")
        assert mesh.deploy(file)[0].version == "1.0.2"


@pytest.mark.system
@pytest.mark.parametrize("way", WAYS)
async def test_the_same_awaited(way: str, target: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / f"async-{way}"
    write(folder, "step.py", STEP.format("lib.one.ONE").replace("def", "import lib.one\n\n\ndef"))
    (folder / "lib").mkdir()
    write(folder / "lib", "one.py", "ONE = 1\n")
    name = f"async-{way}/step"
    mesh = await AsyncMesh.connect(**target(way))
    async with mesh:
        (first,) = await mesh.deploy(folder)
        assert (first.name, first.version) == (name, "1.0.0")
        assert await mesh.call(name) == 1
        write(folder / "lib", "one.py", "ONE = 2\n")
        assert (await mesh.update(name, folder)).version == "1.0.1"
        assert await mesh.call(name) == 2
        assert await mesh.rollback(name) == "1.0.0"
        await mesh.remove(name)
        with pytest.raises(NotFound):
            await mesh.describe(name)


@pytest.mark.system
@pytest.mark.parametrize("way", WAYS)
def test_a_function_of_a_plain_module_takes_its_file_along(
    way: str, target: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    file = write(tmp_path / "plain", "plain_module.py", "def one():\n    return two()\n\n\ndef two():\n    return 2\n")
    spec = importlib.util.spec_from_file_location("plain_module", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with Mesh.connect(**target(way)) as mesh:
        (done,) = mesh.deploy(module.one, name=f"fn-{way}/uno")
        assert done.name == f"fn-{way}/uno"
        assert mesh.call(done.name) == 2
        assert mesh.update(done.name, f"{file}::one").changed is False


@pytest.mark.system
@pytest.mark.parametrize("way", WAYS)
def test_what_fails_is_said_and_changes_nothing(
    way: str, target: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    header = "# /// script\n# [[tool.osiris.function.test]]\n# args = []\n# expect = 1\n# ///\n"
    file = write(tmp_path / f"bad-{way}", "probe.py", header + STEP.format(2))
    with Mesh.connect(**target(way)) as mesh:
        with pytest.raises(CheckFailed) as caught:
            mesh.deploy(file)
        assert caught.value.details["tests"]["failed"] == 1
        file.write_text("def step(:\n", "utf-8")
        with pytest.raises(UsageError, match=r"probe\.py, line 1"):
            mesh.deploy(file)
        with pytest.raises(NotFound):
            mesh.deploy(f"{write(file.parent, 'probe.py', STEP.format(1))}::other")
        with pytest.raises(NotFound):
            mesh.describe(f"bad-{way}/step")


@pytest.mark.system
def test_who_may_not_deploys_nothing(face: Gateway, tmp_path: Path) -> None:
    file = write(tmp_path / "no", "step.py", STEP.format(1))
    token = face.node.run("token", "create", "--role", "client", "--grant", "none").out.strip()
    places: list[dict[str, Any]] = [{"target": token}, {"target": face.url, "token": face.viewer}]
    for place in places:
        with Mesh.connect(**place) as mesh:
            with pytest.raises(Denied):
                mesh.deploy(file)
            with pytest.raises(Denied):
                mesh.remove("web/add")
    with Mesh.connect(home=face.node.home) as mesh:
        assert "no/step" not in [row["name"] for row in mesh.list()]
        assert mesh.call("web/add", 1) == 2


def test_a_local_mesh_deploys_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="local mesh"):
        Mesh.local({"a": len}).deploy(write(tmp_path / "x", "x.py", STEP.format(1)))


@pytest.mark.parametrize("source", [lambda: 1, len, print, Path.exists, int])
def test_what_no_file_defines_at_its_top_is_refused(source: Callable[..., Any]) -> None:
    with pytest.raises(UsageError):
        read_source(source, {})


def test_options_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        read_source(tmp_path, {"colour": "red"})
    with pytest.raises(NotFound):
        read_source(tmp_path / "nothing.py", {})
    write(tmp_path / "f", "f.py", STEP.format(1))
    job = read_source(tmp_path / "f", {"timeout": 1.5, "memory": 1024, "name": None, "min": 0})
    assert job["overrides"] == {"timeout": "1500ms", "memory": "1024B", "min": 0}
    assert (job["whole"], job["folder"], job["function"]) == (True, "f", "")


def test_keys_are_not_sent(tmp_path: Path) -> None:
    write(tmp_path / "f", "f.py", STEP.format(1))
    write(tmp_path / "f" / "keys", "user.key", "00" * 32)
    with pytest.raises(UsageError, match="home of a node"):
        read_source(tmp_path / "f", {})


def test_what_the_sdk_signs_are_entries_of_the_ledger() -> None:
    signer = Signer(b"m" * 16, KeyPair.generate())
    spec = FunctionSpec(
        name="a/b", version="1.0.0", digest=b"d" * 32, entry="b.py::b", runtime="python3.11", signature=[[], ""]
    )
    for body in (
        FunctionPublish(spec.to_wire()),
        FunctionActivate(spec.name, spec.version, spec.digest),
        FunctionActivate(spec.name, spec.version),
        FunctionRemove(spec.name, ""),
    ):
        entry = Entry.parse(signer.sign(body.KIND, body.body()))
        assert (entry.kind, entry.mesh_id, entry.author) == (body.KIND, signer.mesh_id, signer.key.public)
        assert entry.holds()
        assert read(entry.kind, entry.body) == body
    assert "plain_module" not in sys.modules


SIGNER = Signer(b"m" * 16, KeyPair.generate())
SPEC = FunctionSpec("math/add", "1.0.0", b"d" * 32, "add.py::add", "python3.11", [[], ""])
JOB: dict[str, Any] = {"files": {}, "folder": "math", "whole": False, "function": "add", "overrides": {}}


def answered(spec: FunctionSpec, *, mesh_id: bytes = SIGNER.mesh_id, changed: bool = True) -> bytes:
    return pack({"mesh_id": mesh_id, "functions": [{"spec": spec.to_wire(), "changed": changed}]})


def test_what_was_built_is_signed_and_sent() -> None:
    talk = LinkDeploying(lambda: SIGNER).deploy(JOB | {"name": "math/add"})
    assert next(talk).method == "function.build"
    sent = talk.send(answered(SPEC))
    assert sent.method == "function.deploy"
    body = unpack(sent.body)
    assert body["digest"] == SPEC.digest
    entries = [Entry.parse(entry) for entry in body["entries"]]
    assert [read(entry.kind, entry.body) for entry in entries] == [
        FunctionPublish(SPEC.to_wire()),
        FunctionActivate(SPEC.name, SPEC.version, SPEC.digest),
    ]
    with pytest.raises(StopIteration) as end:
        talk.send(pack({"height": 7, "tests": {"ok": True}, "copies": 1, "nodes": 1, "outcomes": []}))
    assert end.value.value == [
        Deployed("math/add", "1.0.0", SPEC.digest.hex(), changed=True, tests={"ok": True}, height=7, copies=1)
    ]


@pytest.mark.parametrize(
    ("asked", "answer", "kind"),
    [
        ({"name": "math/add"}, answered(replace(SPEC, name="math/other")), Denied),
        ({"name": "add", "namespace": "math"}, answered(replace(SPEC, name="other/add")), Denied),
        ({"version": "2.0.0"}, answered(SPEC), Denied),
        ({"function": "sub"}, answered(SPEC), Denied),
        ({}, answered(SPEC, mesh_id=b"x" * 16), Denied),
        ({}, pack({"mesh_id": SIGNER.mesh_id, "functions": []}), RemoteProtocolError),
        ({}, pack({"mesh_id": SIGNER.mesh_id, "functions": [{"spec": b"x", "changed": True}]}), RemoteProtocolError),
        ({}, pack([]), RemoteProtocolError),
    ],
)
def test_what_was_not_asked_for_is_not_signed(asked: dict[str, Any], answer: bytes, kind: type[Exception]) -> None:
    talk = LinkDeploying(lambda: SIGNER).deploy(JOB | asked)
    next(talk)
    with pytest.raises(kind):
        talk.send(answer)
