"""Deployments over HTTP: from a source, as a bundle, as a stored bundle signed by its deployer."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.ledger.kinds import FunctionActivate, FunctionPublish
from osiris_mesh.runtime.build import build_bundle
from osiris_mesh.runtime.bundle import Bundle
from tests.http.client import Face
from tests.http.tokens import make_token, sign

pytestmark = pytest.mark.system
BUNDLE = {"Content-Type": "application/vnd.osiris.bundle"}


def build(folder: Path, name: str, version: str = "1.0.0", body: str = "return 1") -> Bundle:
    path = folder / "made.py"
    path.write_text(f"def made():\n    {body}\n", "utf-8")
    return build_bundle(path, name=name, version=version)


def deploy(face: Face, body: Any, **more: Any) -> Any:
    answer = face.post("/v1/functions", body, **more)
    assert answer.status == 200, answer
    return answer.json["functions"][0]


def test_a_source_gets_the_next_version_and_can_be_rolled_back(face: Face) -> None:
    source = {"source": "def step():\n    return 1\n", "name": "d/step"}
    first = deploy(face, source)
    assert (first["version"], first["changed"]) == ("1.0.0", True)
    assert deploy(face, source)["changed"] is False
    assert deploy(face, source | {"source": "def step():\n    return 2\n"})["version"] == "1.0.1"
    assert face.post("/v1/call/d/step", {}).json == 2
    assert face.post("/v1/functions/d/step/rollback").status == 200
    assert face.post("/v1/call/d/step", {}).json == 1
    assert face.post("/v1/functions/d/step/activate", {"version": "1.0.1"}).status == 200
    assert face.post("/v1/functions/d/step/deprecate", {"version": "1.0.0"}).status == 200
    assert face.post("/v1/functions/d/step/activate", {"version": "9.0.0"}).status == 404
    assert face.ask("DELETE", "/v1/functions/d/step").status == 200
    assert face.get("/v1/functions/d/step").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"source": "def"},
        {"source": "x = 1"},
        {"source": "(" * 50_000},
        {"source": "-" * 500_000 + "1"},
        {"source": "def f(): pass", "filename": "../x.py"},
        {"source": "def f(): pass", "name": "not a name"},
        {"source": "def f(): pass", "version": "1"},
        {"source": "def f(): pass", "digest": "00" * 32},
        {"source": "def f(): pass", "entries": ["AA=="]},
    ],
)
def test_what_can_not_be_built_is_refused(face: Face, body: dict[str, Any]) -> None:
    answer = face.post("/v1/functions", body)
    assert 400 <= answer.status < 500, answer
    assert "/tmp" not in answer.body.decode()
    assert face.get("/v1/health").status == 200


def test_a_bundle_is_deployed_as_it_is(face: Face, tmp_path: Path) -> None:
    bundle = build(tmp_path, "d/bundled")
    made = deploy(face, bundle.data, headers=BUNDLE)
    assert (made["name"], made["digest"]) == ("d/bundled", bundle.digest.hex())
    assert deploy(face, bundle.data, headers=BUNDLE)["changed"] is False
    other = build(tmp_path, "d/bundled", body="return 2")
    assert face.post("/v1/functions", other.data, headers=BUNDLE).status == 409
    assert face.post("/v1/functions", b"nonsense", headers=BUNDLE).status == 400
    some = make_token(face.home, "bundler", ["function.deploy:e/*"])
    assert face.post("/v1/functions", bundle.data, headers=BUNDLE, token=some).status == 403
    assert face.post("/v1/bundles", bundle.data, headers=BUNDLE, token=some).status == 403


def test_a_stored_bundle_may_be_published_with_entries_of_ones_own(face: Face, tmp_path: Path) -> None:
    bundle = build(tmp_path, "d/signed")
    stored = face.post("/v1/bundles", bundle.data, headers=BUNDLE)
    assert stored.json == {"digest": bundle.digest.hex(), "name": "d/signed", "version": "1.0.0"}
    spec = bundle.spec
    changes = [FunctionPublish(spec.to_wire()), FunctionActivate(spec.name, spec.version, spec.digest)]
    entries = [base64.b64encode(sign(face.home, change)).decode() for change in changes]
    for wrong in (entries[:1], entries[::-1], ["AA==", "AA=="], ["!", "!"]):
        assert face.post("/v1/functions", {"digest": bundle.digest.hex(), "entries": wrong}).status == 400
    made = deploy(face, {"digest": bundle.digest.hex(), "entries": entries})
    assert made["changed"] is True
    history = face.get("/v1/functions/d/signed").json["history"]
    assert history[0]["publisher"] != face.get("/v1/whoami").json["key"]
    assert face.post("/v1/functions", {"digest": "00" * 32}).status == 404


def test_a_failing_test_leaves_the_version_before(face: Face) -> None:
    header = "# /// script\n# [[tool.osiris.function.test]]\n# args = []\n# expect = 1\n# ///\n"
    good = {"source": header + "def probe():\n    return 1\n", "name": "d/probe"}
    assert deploy(face, good)["tests"]["passed"] == 1
    bad = face.post("/v1/functions", good | {"source": header + "def probe():\n    return 2\n"})
    assert (bad.status, bad.json["code"]) == (422, "check_failed")
    assert face.post("/v1/call/d/probe", {}).json == 1
