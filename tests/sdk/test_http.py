"""The SDK over HTTP against a real controller."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from osiris_sdk import (
    AsyncMesh,
    DeadlineExceeded,
    Denied,
    FunctionError,
    Mesh,
    NotFound,
    Unavailable,
    UsageError,
)
from tests.sdk.gateways import SOURCE, Forwarder, Gateway, gateway


@pytest.fixture(scope="module")
def face() -> Iterator[Gateway]:
    with gateway() as found:
        yield found


@pytest.fixture
def mesh(face: Gateway) -> Iterator[Mesh]:
    with Mesh.connect(face.url, token=face.admin) as found:
        yield found


@pytest.fixture
def forwarder(face: Gateway) -> Iterator[Forwarder]:
    found = Forwarder(face.address)
    yield found
    found.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_calls(mesh: Mesh) -> None:
    assert mesh.call("web/add", 2, 3) == 5
    assert mesh.call_function("web/add", a=2) == 3
    assert mesh.call("web/add@1.0.0", 2) == 3
    value = {"a": [1, 2.5, None, True, b"\0\xff", "ä"], "b": {}}
    assert mesh.call("web/echo", value) == value
    data = os.urandom(3 << 20)
    assert mesh.call("web/echo", data) == data
    result, facts = mesh.detailed("web/add", [1], {"b": 4})
    assert result == 5
    assert facts["version"] == "1.0.0"
    assert facts["node"]
    assert facts["elapsed_us"] > 0


def test_an_async_function_awaits_others(face: Gateway, mesh: Mesh) -> None:
    assert mesh.call("web/fan", 12) == list(range(1, 13))
    source = face.node.home / "fan.py"
    source.write_text(SOURCE)
    face.node.ok("deploy", f"{source}::fan", "--name", "web/wide", "--concurrency", "4", "--max", "1")
    assert list(mesh.map("web/wide", [6] * 8, concurrency=8)) == [list(range(1, 7))] * 8


def test_errors_are_the_same_classes(mesh: Mesh) -> None:
    with pytest.raises(TypeError, match=r"add\(\) argument 'a': expected int, got str"):
        mesh.call("web/add", "x")
    with pytest.raises(FunctionError) as caught:
        mesh.call("web/fail", "because")
    assert (caught.value.type, caught.value.message) == ("ValueError", "because")
    assert "raise ValueError(text)" in caught.value.traceback
    with pytest.raises(NotFound):
        mesh.call("web/none")
    with pytest.raises(UsageError):
        mesh.call("not a name")
    # Warm first: what runs out must be the function's time, not that of its start on a busy machine.
    mesh.call("web/slow", 0.0)
    with pytest.raises(DeadlineExceeded, match=r"web/slow@\S+ was not done in time"):
        mesh.options(timeout=1.0).call("web/slow", 5.0)
    with pytest.raises(UsageError, match="not asked over HTTP"):
        mesh.request("ledger.submit", {})


def test_a_function_with_its_signature(mesh: Mesh) -> None:
    add = mesh.function("web/add")
    assert add(1, b=2) == 3
    assert add.__doc__ == "Add two numbers."
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert mesh.resolve("web/add").version == "1.0.0"


def test_the_catalogue_and_the_mesh(mesh: Mesh) -> None:
    assert {"web/add", "web/echo"} <= {row["name"] for row in mesh.list()}
    assert mesh.describe("web/add")["active"] == "1.0.0"
    assert mesh.request("node.status")["state"] == "ready"
    assert mesh.request("ledger.show", {"height": 1})["height"] == 1
    assert mesh.request("ledger.log", {"from": 1, "limit": 2})["blocks"][0]["height"] == 1
    assert mesh.request("node.doctor")["checks"]
    assert mesh.request("node.metrics")["samples"] is not None


def test_map_keeps_the_order_and_many_threads_share_one_mesh(mesh: Mesh) -> None:
    assert list(mesh.map("web/add", range(40), concurrency=8)) == list(range(1, 41))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: mesh.call("web/add", number), range(40))) == list(range(1, 41))
    with pytest.raises(FunctionError):
        list(mesh.map("web/fail", ["x"]))


def test_a_bearer_may_do_what_his_token_says(face: Gateway) -> None:
    with pytest.raises(Denied):
        Mesh.connect(face.url, token="osa1" + "A" * 43)
    with Mesh.connect(face.url, token=face.viewer) as mesh:
        assert mesh.list()
        with pytest.raises(Denied):
            mesh.call("web/add", 1)


def test_logs(mesh: Mesh) -> None:
    mesh.call("web/shout", "first words")
    assert "first words" in [line["text"] for line in wait_for(lambda: list(mesh.logs("web/shout")))]
    assert any(line["function"] == "web/shout" for line in mesh.logs())
    with pytest.raises(NotFound):
        list(mesh.logs("web/none"))
    with pytest.raises(NotFound):
        list(mesh.logs("web/none", follow=True))


def wait_for(found: Callable[[], list[dict[str, object]]]) -> list[dict[str, object]]:
    deadline = time.monotonic() + 20
    while not (result := found()):
        assert time.monotonic() < deadline
    return result


def test_lines_are_followed_through_a_break_and_come_once(face: Gateway, forwarder: Forwarder) -> None:
    with Mesh.connect(forwarder.url, token=face.admin) as mesh:
        mesh.call("web/shout", "before")
        wait_for(lambda: list(mesh.logs("web/shout", tail=1)))
        lines = mesh.logs("web/shout", tail=1, follow=True)
        assert next(lines)["text"] == "before"
        mesh.call("web/shout", "one")
        assert next(lines)["text"] == "one"
        forwarder.cut()
        with Mesh.connect(face.url, token=face.admin) as straight:
            straight.call("web/shout", "two")
        assert next(lines)["text"] == "two"


def test_events_go_on_where_they_were(face: Gateway, forwarder: Forwarder) -> None:
    with Mesh.connect(face.url, token=face.admin) as straight, Mesh.connect(forwarder.url, token=face.admin) as mesh:
        events = mesh.events("deploy.*", after=0)
        seen = next(events)
        assert seen["name"] == "deploy.done"
        numbers = [seen["sequence"]]
        numbers += [event["sequence"] for event in [next(events) for _ in range(4)]]
        forwarder.cut()
        source = face.node.home / "again.py"
        source.write_text("def again():\n    return 1\n")
        face.node.ok("deploy", str(source), "--name", "web/again")
        for event in events:
            numbers.append(event["sequence"])
            if event["fields"]["function"] == "web/again":
                break
        assert numbers == sorted(set(numbers))
        assert straight.call("web/again") == 1
        with pytest.raises(UsageError):
            next(mesh.events("no.such.event"))


def test_a_connection_that_was_closed_meanwhile_is_made_again(face: Gateway, forwarder: Forwarder) -> None:
    with Mesh.connect(forwarder.url, token=face.admin) as mesh:
        assert mesh.call("web/add", 1) == 2
        accepted = forwarder.accepted
        assert mesh.call("web/add", 1) == 2
        assert forwarder.accepted == accepted  # kept alive
        forwarder.cut()
        assert mesh.call("web/add", 1) == 2


def test_a_call_that_may_have_run_is_not_repeated_unless_it_may_be(face: Gateway, forwarder: Forwarder) -> None:
    with Mesh.connect(forwarder.url, token=face.admin) as mesh:
        mesh.resolve("web/slow")
        outcome: list[object] = []

        def call(calls: Mesh, seconds: float) -> None:
            try:
                outcome.append(calls.call("web/slow", seconds))
            except Unavailable as error:
                outcome.append(error.details["maybe"])

        for calls, expected in ((mesh, True), (mesh.options(idempotent=True), 0.3)):
            caller = threading.Thread(target=call, args=(calls, 0.3))
            before = face_calls(face)
            caller.start()
            deadline = time.monotonic() + 20
            while face_calls(face) == before:
                assert time.monotonic() < deadline
            forwarder.cut()
            caller.join(20)
            assert outcome.pop() == expected


def face_calls(face: Gateway) -> int:
    """Count the calls of web/slow under way or done."""
    with Mesh.connect(home=face.node.home) as mesh:
        samples = mesh.request("node.metrics", {"name": "web/slow"})["samples"]
    return sum(sample["calls"] + sample["in_flight"] for sample in samples)


def test_the_next_address_steps_in(face: Gateway) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    for _ in range(4):
        with Mesh.connect([gone, face.url], token=face.admin) as mesh:
            assert [mesh.call("web/add", number) for number in range(4)] == [1, 2, 3, 4]
    with pytest.raises(Unavailable, match="nobody answers at"):
        Mesh.connect(gone, token=face.admin)
    with pytest.raises(Unavailable, match="none of the 2 addresses"):
        Mesh.connect([gone, f"http://127.0.0.1:{free_port()}"], token=face.admin)


def test_load_spreads_over_the_addresses_that_live(face: Gateway) -> None:
    first, second = Forwarder(face.address), Forwarder(face.address)
    try:
        with Mesh.connect([first.url, second.url], token=face.admin) as mesh:
            for number in range(20):
                assert mesh.call("web/add", number) == number + 1
            assert first.accepted
            assert second.accepted
            first.refusing = True
            first.cut()
            for number in range(20):
                assert mesh.options(idempotent=True).call("web/add", number) == number + 1
    finally:
        first.close()
        second.close()


def test_a_closed_mesh_says_so(face: Gateway) -> None:
    mesh = Mesh.connect(face.url, token=face.admin)
    mesh.close()
    with pytest.raises(Unavailable, match="closed here"):
        mesh.call("web/add", 1)


def test_a_forked_child_connects_anew(mesh: Mesh) -> None:
    assert mesh.call("web/add", 1) == 2
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"%d" % mesh.call("web/add", 41))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"42"
    os.waitpid(child, 0)
    assert mesh.call("web/add", 1) == 2


async def test_awaited(face: Gateway, forwarder: Forwarder) -> None:
    async with await AsyncMesh.connect(forwarder.url, token=face.admin) as mesh:
        assert await mesh.call("web/add", 2, 3) == 5
        value = {"a": [1, b"\0", None]}
        assert await mesh.call("web/echo", value) == value
        result, facts = await mesh.detailed("web/add", [1])
        assert (result, facts["version"]) == (2, "1.0.0")
        assert [answer async for answer in mesh.map("web/add", range(20))] == list(range(1, 21))
        assert (await (await mesh.function("web/add"))(4)) == 5
        assert {"web/add"} <= {row["name"] for row in await mesh.list()}
        for expected, failing in (
            (FunctionError, mesh.call("web/fail", "x")),
            (NotFound, mesh.call("web/none")),
            (DeadlineExceeded, mesh.options(timeout=0.15).call("web/slow", 5.0)),
            (TypeError, mesh.call("web/add", "x")),
        ):
            with pytest.raises(expected):
                await failing
        forwarder.cut()
        assert await mesh.options(idempotent=True).call("web/add", 1) == 2
        await mesh.call("web/shout", "awaited")
        lines = mesh.logs("web/shout", tail=1, follow=True)
        assert (await anext(lines))["text"] == "awaited"
        forwarder.cut()
        await mesh.options(idempotent=True).call("web/shout", "after")
        assert (await anext(lines))["text"] == "after"
        events = mesh.events("deploy.*", after=0)
        assert (await anext(events))["name"] == "deploy.done"
        assert any([line["text"] == "awaited" async for line in mesh.logs("web/shout")])
        await lines.aclose()  # type: ignore[attr-defined]
        await events.aclose()  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="closed here"):
        await mesh.call("web/add", 1)
    with pytest.raises(Unavailable):
        await AsyncMesh.connect(f"http://127.0.0.1:{free_port()}", token=face.admin)
    with pytest.raises(Denied):
        await AsyncMesh.connect(face.url, token="osa1" + "A" * 43)
    await asyncio.sleep(0)


def test_tls_is_checked(face: Gateway, tmp_path) -> None:
    """A TLS server in front of the gateway stands for one with a certificate of its own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    async def serve(ready: asyncio.Future[int], stop: asyncio.Event) -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(*face.address)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

        server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context)
        ready.set_result(server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close()

    async def main() -> None:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        serving = asyncio.ensure_future(serve(ready, stop))
        url = f"https://127.0.0.1:{await ready}"

        def blocking() -> None:
            with Mesh.connect(url, token=face.admin, ca=tmp_path / "ca.pem") as mesh:
                assert mesh.call("web/add", 1) == 2
            with pytest.raises(Unavailable) as caught:
                Mesh.connect(url, token=face.admin)
            assert "ca=" in caught.value.fix

        await asyncio.to_thread(blocking)
        async with await AsyncMesh.connect(url, token=face.admin, ca=tmp_path / "ca.pem") as mesh:
            assert await mesh.call("web/add", 1) == 2
        with pytest.raises(Unavailable) as caught:
            await AsyncMesh.connect(url, token=face.admin)
        assert "ca=" in caught.value.fix
        stop.set()
        await serving

    asyncio.run(main())
