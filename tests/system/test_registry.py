"""One name, anywhere: published by a machine that has no controller, resolved by real controllers of another."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osiris_sdk import Mesh as Client
from tests.registry.ipfs.kubo import Daemon, daemon, find_ipfs
from tests.system.harness import Mesh, Node, wait_until
from tests.system.registry_kit import FILE, NAME, Host, Publisher, bare, git

pytestmark = pytest.mark.system


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path / "served").serving() as serving:
        yield serving


def resolve(node: Node, name: str = NAME, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = node.ok("registry", "resolve", name, *words)
    return found


def add(node: Node, name: str, url: str, pin: str, *words: str) -> None:
    node.ok("registry", "add", name, url, "--pin", pin, *words)


def sync(node: Node, name: str) -> Any:
    return node.run("registry", "sync", name, "--json")


def test_published_to_git_by_one_machine_resolved_by_others_in_whatever_order(
    mesh: Mesh, publisher: Publisher, tmp_path: Path
) -> None:
    repository, folder = bare(tmp_path / "r.git"), f"file://{tmp_path}/other"
    pin, other = publisher.begin(repository, "--vendor", "acme.com"), publisher.begin(folder)
    publisher.publish(repository, "1.0.0", "--provider", "eu=https://eu.example.com/v1/call/{name}")
    publisher.publish(folder, "1.0.0", "--namespace", "text")
    first = mesh.init()
    second = mesh.join(first)
    add(first, "git", repository, pin)
    add(first, "folder", folder, other)
    add(second, "folder", folder, other)
    add(second, "theirs", repository, pin)
    answers = [resolve(node) for node in (first, second)]
    assert [answer["source"] for answer in answers] == ["git", "theirs"]
    assert answers[0]["record"] == answers[1]["record"]
    assert answers[0]["providers"][0]["endpoint"] == "https://eu.example.com/v1/call/{name}"
    assert resolve(second, "text/add")["source"] == "folder"

    # What another version is, is decided by signatures: in either order the longer history holds.
    publisher.publish(repository, "1.1.0")
    for node, name in ((first, "git"), (second, "theirs")):
        assert sync(node, name).code == 0
        told = resolve(node, NAME, "--explain")
        assert told["version"] == "1.1.0"
        said = {step["registry"]: step for step in told["why"]}
        assert {name, "folder"} <= said.keys(), told["why"]
    assert resolve(second, f"{NAME}@1.0.0")["version"] == "1.0.0"
    assert second.run("registry", "resolve", "math/none").code == 3


@pytest.fixture(scope="module")
def kubo() -> Iterator[Daemon]:
    find_ipfs()
    with daemon() as running:
        yield running


def test_git_ipfs_the_ledger_and_http_agree_to_the_byte(
    mesh: Mesh, publisher: Publisher, host: Host, kubo: Daemon, tmp_path: Path
) -> None:
    node = mesh.init()
    reader = mesh.join(node)
    served = f"file://{host.folder}"
    pointer = f"ipns://{kubo.ipfs('key', 'gen', 'registry')}"
    through = ("--api", kubo.api, "--gateway", kubo.gateway)
    urls = {"git": bare(tmp_path / "r.git"), "http": served, "ipfs": pointer}
    pins = {kind: publisher.begin(url, *(through if kind == "ipfs" else ())) for kind, url in urls.items()}
    # Only members write to the ledger: one of them, with the publisher's key.
    (node.home / "keys" / "registry").mkdir(mode=0o700)
    (node.home / "keys" / "registry" / "owner.key").write_bytes(publisher.key_file.read_bytes())
    (node.home / "keys" / "registry" / "owner.key").chmod(0o600)
    pins["ledger"] = node.ok("registry", "init", "--to", "ledger:", "--key", "owner")["pin"]
    said = ("--provider", "eu=https://eu.example.com/v1/call/{name}", "--require-level", "controlled")
    for version in ("1.0.0", "1.1.0"):
        for kind, url in urls.items():
            publisher.publish(url, version, *said, *(through if kind == "ipfs" else ()))
        words = ("--to", "ledger:", "--key", "owner", "--version", version, *said)
        node.ok("registry", "publish", str(publisher.source), *words)

    add(reader, "git", urls["git"], pins["git"])
    add(reader, "http", host.url, pins["http"])
    add(reader, "ipfs", pointer, pins["ipfs"], "--gateway", kubo.gateway)
    add(reader, "ledger", "ledger:", pins["ledger"])
    shown, resolved = {}, {}
    for kind in ("git", "http", "ipfs", "ledger"):
        reader.ok("registry", "order", kind)
        shown[kind] = reader.ok("registry", "show", NAME)
        resolved[kind] = resolve(reader)
        assert shown[kind]["source"] == kind
    assert shown["ledger"]["places"], "an entry of the ledger is named"
    assert [each["statements"] for each in shown.values()] == [shown["git"]["statements"]] * 4
    assert [each["record"] for each in resolved.values()] == [resolved["git"]["record"]] * 4
    assert resolved["git"]["version"] == "1.1.0"

    with Client.connect(home=reader.home) as client:
        kept = client.request("registry.file", {"path": FILE})["data"]
    root = kubo.ipfs("name", "resolve", pointer.replace("ipns://", "/ipns/"))
    found = {
        "git": git(tmp_path / "r.git", "show", f"main:{FILE}"),
        "http": host.get(FILE),
        "ipfs": kubo.ipfs("cat", f"{root}/{FILE}").encode() + b"\n",
        "ledger": kept,
    }
    assert found["git"].count(b"\n") == 2
    assert {kind: data == found["git"] for kind, data in found.items()} == dict.fromkeys(found, True)


def test_keys_that_change_and_statements_that_are_revoked_are_seen_by_who_resolves(
    mesh: Mesh, publisher: Publisher, tmp_path: Path
) -> None:
    url = bare(tmp_path / "r.git")
    pin = publisher.begin(url)
    publisher.publish(url, "1.0.0")
    node = mesh.init()
    add(node, "git", url, pin)
    assert resolve(node)["version"] == "1.0.0"

    desk, out = publisher.node, str(tmp_path / "next.json")
    thief = desk.ok("registry", "keys", "create", "second")["public"]
    desk.ok("registry", "keys", "vendor", "_", "--at", url, "--key", "owner", "--publisher", "second", "--out", out)
    desk.ok("registry", "keys", "publish", out, "--to", url, "--key", "owner")
    publisher.publish(url, "1.1.0", key="second")
    bad = publisher.publish(url, "6.6.6", key="second")
    assert sync(node, "git").code == 0
    assert resolve(node)["version"] == "6.6.6"

    # The second key was stolen: what it said last is revoked, the rest is signed anew by who stays.
    (wrong,) = (
        item["statement"]
        for item in node.ok("registry", "show", NAME)["statements"]
        if item.get("version") == bad["version"]
    )
    gone = ("--drop-publisher", thief, "--revoke-key", thief, "--revoke-record", wrong)
    desk.ok("registry", "keys", "vendor", "_", "--at", url, "--key", "owner", *gone, "--out", out)
    desk.ok("registry", "keys", "publish", out, "--to", url, "--key", "owner", "--renew")
    assert sync(node, "git").code == 0
    assert resolve(node)["version"] == "1.1.0"
    more = ("--to", url, "--key", "second", "--version", "2.0.0", "--json")
    refused = desk.run("registry", "publish", str(publisher.source), *more)
    assert refused.code == 5, refused.out
    assert node.run("registry", "resolve", f"{NAME}@6.6.6").code == 3
    node.ok("stop")
    node.launch("start")
    assert resolve(node)["version"] == "1.1.0"


def test_a_history_that_was_pushed_back_is_refused_and_kept_as_evidence(
    mesh: Mesh, publisher: Publisher, tmp_path: Path
) -> None:
    repository = tmp_path / "r.git"
    url = bare(repository)
    pin = publisher.begin(url)
    publisher.publish(url, "1.0.0")
    older = git(repository, "rev-parse", "main").decode().strip()
    publisher.publish(url, "1.1.0")
    node = mesh.init()
    add(node, "git", url, pin)
    assert resolve(node)["version"] == "1.1.0"
    assert node.ok("registry", "evidence")["evidence"] == []

    git(repository, "update-ref", "refs/heads/main", older)
    refused = sync(node, "git")
    assert (refused.code, refused.json["error"]["details"]["reason"]) == (2, "rewritten"), refused.out
    assert resolve(node)["version"] == "1.1.0"
    kept = node.ok("registry", "evidence", "git")["evidence"]
    assert [(item["reason"], item["subject"]) for item in kept] == [("rollback", "checkpoint")], kept
    assert kept[0]["lines"][0].encode() + b"\n" == git(repository, "show", "main:checkpoint")
    node.ok("stop")
    node.launch("start")
    assert sync(node, "git").code == 2, "nothing is forgotten by starting again"
    assert resolve(node)["version"] == "1.1.0"
    assert node.ok("registry", "evidence", "git")["evidence"]


def test_started_without_its_registries_a_controller_answers_from_its_disk(
    mesh: Mesh, publisher: Publisher, tmp_path: Path
) -> None:
    folder, repository = tmp_path / "folder", tmp_path / "r.git"
    urls = {"folder": f"file://{folder}", "git": bare(repository)}
    node = mesh.init()
    for name, url in urls.items():
        add(node, name, url, publisher.begin(url))
    publisher.publish(urls["folder"], "1.0.0", "--namespace", "text", "--ttl", "3s")
    publisher.publish(urls["git"], "1.0.0")
    node.ok("registry", "sync")
    assert resolve(node, "text/add")["stale"] is False
    assert resolve(node)["stale"] is False
    node.ok("stop")
    folder.rename(tmp_path / "gone")
    repository.rename(tmp_path / "gone.git")
    node.launch("start")
    # The clone is this machine's own; of the folder nothing is left but what was resolved.
    assert resolve(node)["version"] == "1.0.0"
    wait_until(lambda: resolve(node, "text/add")["stale"], seconds=10, what="an answer past its time, marked stale")
    assert resolve(node, "text/add")["version"] == "1.0.0"
    assert node.run("registry", "resolve", "text/none").code == 6, "what was never seen is not said to be nowhere"
    (tmp_path / "gone").rename(folder)
    # How old an answer is counts from the last look at its registry.
    wait_until(
        lambda: sync(node, "folder").code == 0 and not resolve(node, "text/add")["stale"],
        seconds=20,
        what="fresh again",
    )


def test_a_registry_that_hangs_adds_nothing_to_what_is_cached(
    mesh: Mesh, publisher: Publisher, host: Host, tmp_path: Path
) -> None:
    folder = f"file://{tmp_path}/folder"
    node = mesh.init()
    pins = [publisher.begin(f"file://{host.folder}"), publisher.begin(folder)]
    add(node, "slow", host.url, pins[0])
    add(node, "folder", folder, pins[1])
    publisher.publish(folder, "1.0.0")
    node.ok("registry", "sync", "folder")

    with Client.connect(home=node.home) as client:

        def times() -> list[float]:
            found = []
            for _ in range(200):
                began = time.perf_counter()
                assert client.request("registry.resolve", {"name": NAME})["version"] == "1.0.0"
                found.append((time.perf_counter() - began) * 1000)
            return sorted(found)

        times()
        before = times()
        host.hangs = True
        looking = threading.Thread(target=node.run, args=("registry", "sync", "slow"))
        looking.start()
        wait_until(lambda: host.waiting > 0, what="a question that hangs")
        during = times()
        host.released.set()
        looking.join()
    assert host.waiting > 0
    added = statistics.median(during) - statistics.median(before)
    assert added < max(statistics.median(before), 1.0), f"{added:.2f} ms added"
    assert during[-1] < 500, f"one took {during[-1]:.0f} ms"
