"""Deliveries: signing, the schedule of tries, the bounded queue, and who of a mesh delivers."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.gateway.deliveries import (
    GIVE_UP_SECONDS,
    Delivery,
    Duty,
    Queue,
    body_of,
    delivery_id,
    headers_of,
    sign,
    webhook_secret,
)
from osiris_mesh.gateway.events import Bus, Event

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"


def delivery(name: str = "d", since: float = 0.0) -> Delivery:
    return Delivery(name, "node.lost", b"{}", since, since)


def test_vectors_are_those_of_the_docs() -> None:
    text = DOCS.read_text("utf-8")
    vector = json.loads(re.findall(r"```json\n(\{\"network_key.*?)\n```", text, re.DOTALL)[0])
    secret = webhook_secret(bytes.fromhex(vector["network_key"]), vector["webhook"], bytes.fromhex(vector["entry"]))
    assert secret == vector["secret"]
    assert sign(secret, vector["timestamp"], vector["body"].encode()) == vector["signature"]


def test_names_networks_and_entries_have_secrets_of_their_own() -> None:
    secrets = {
        webhook_secret(bytes([key]) * 32, name, bytes([entry]) * 32)
        for key in (0, 1)
        for name in ("a", "b")
        for entry in (0, 1)
    }
    assert len(secrets) == 8
    assert all(re.fullmatch(r"osw1[A-Za-z0-9_-]{43}", secret) for secret in secrets)


def test_a_signature_covers_time_and_body() -> None:
    assert len({sign("s", 1, b"ab"), sign("s", 2, b"ab"), sign("s", 1, b"a"), sign("t", 1, b"ab")}) == 4


def test_headers() -> None:
    headers = headers_of(delivery(), "secret", 1_700_000_000)
    assert headers == {
        "Content-Type": "application/json",
        "Osiris-Event": "node.lost",
        "Osiris-Delivery": "d",
        "Osiris-Timestamp": "1700000000",
        "Osiris-Signature": sign("secret", 1_700_000_000, b"{}"),
    }


def test_the_body_is_json_of_the_event() -> None:
    event = Bus(FakeClock()).publish(Event("node.lost", {"peer": "p", "node": "ü"}))
    assert json.loads(body_of(event, mesh="m", peer="me", node="n1")) == {
        "event": "node.lost",
        "time_ms": event.time_ms,
        "mesh": "m",
        "node": "n1",
        "peer_id": "me",
        "fields": {"peer": "p", "node": "ü"},
    }


def test_what_stands_in_the_ledger_has_the_same_id_everywhere() -> None:
    clock = FakeClock()
    one, other = Bus(clock), Bus(clock)
    other.publish(Event("queue.full"))
    clock.advance(1)
    added = Event("member.added", {"peer": "p", "height": 7})
    first = delivery_id(b"m", "w", "one", one.publish(added))
    clock.advance(1)
    assert delivery_id(b"m", "w", "other", other.publish(added)) == first
    assert delivery_id(b"m", "x", "one", one.publish(added)) != first
    assert delivery_id(b"n", "w", "one", one.publish(added)) != first
    lost = Event("node.lost", {"peer": "p"})
    assert delivery_id(b"m", "w", "one", one.publish(lost)) != delivery_id(b"m", "w", "one", one.publish(lost))


def run_down(queue: Queue, status: int | None, retry_after: float = 0.0) -> list[float]:
    """Answer every try alike; return when each was made."""
    times, now = [], 0.0
    while (due := queue.due()) is not None and len(times) < 200:
        now = max(now, due)
        assert queue.take(now) is not None
        times.append(now)
        queue.answered(status, now, retry_after)
    return times


@pytest.mark.parametrize("status", [None, 300, 302, 400, 404, 500, 503])
def test_failures_are_tried_again_ever_later_for_an_hour(status: int | None) -> None:
    queue = Queue(random.Random(1))
    queue.put(delivery())
    times = run_down(queue, status)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == 0
    assert 1.6 <= pauses[0] <= 2.4
    assert all(480 <= pause <= 720 for pause in pauses[9:])
    assert all(0.8 * 2 ** (n + 1) <= pause <= 1.2 * 2 ** (n + 1) for n, pause in enumerate(pauses[:8]))
    assert GIVE_UP_SECONDS - 720 < times[-1] <= GIVE_UP_SECONDS
    assert queue.counts == {"retried": len(times) - 1, "failed": 1}
    assert len(queue) == 0


def test_success_and_gone_end_it() -> None:
    queue = Queue(random.Random(1))
    for status in (204, 410):
        queue.put(delivery())
        assert run_down(queue, status) == [0.0]
    assert queue.counts == {"delivered": 1, "failed": 1}


@pytest.mark.parametrize(("asked", "waited"), [(30, 30), (86_400, 600)])
def test_a_receiver_may_ask_for_time_within_bounds(asked: float, waited: float) -> None:
    queue = Queue(random.Random(1))
    queue.put(delivery())
    assert run_down(queue, 429, asked)[1] == waited


def test_one_at_a_time_and_the_one_due_first() -> None:
    queue = Queue(random.Random(1))
    queue.put(delivery("a", 0))
    queue.put(delivery("b", 1))
    first = queue.take(5)
    assert first is not None
    assert first.id == "a"
    assert queue.take(5) is None
    assert queue.due() is None
    assert queue.answered(500, 5) == "retried"
    second = queue.take(5)
    assert second is not None
    assert second.id == "b"


def test_when_full_the_oldest_is_dropped() -> None:
    queue = Queue(random.Random(1), limit=3)
    for number in range(5):
        queue.put(delivery(str(number), number))
    order = []
    while (one := queue.take(10)) is not None:
        order.append(one.id)
        queue.answered(200, 10)
    assert order == ["2", "3", "4"]
    assert queue.counts == {"dropped": 2, "delivered": 3}


LOST = Event("node.lost", {"peer": "old"})


def test_the_leader_delivers_what_is_of_the_mesh_and_everybody_his_own() -> None:
    assert Duty("me").deliver(LOST, "me", 0)
    assert not Duty("me").deliver(LOST, "other", 0)
    assert Duty("me").deliver(Event("queue.full"), "other", 0)
    assert Duty("me").deliver(Event("quorum.lost"), "", 0)


def test_what_comes_while_nobody_leads_is_delivered_by_who_does_then() -> None:
    mine, other = Duty("me"), Duty("other")
    for duty in (mine, other):
        assert not duty.deliver(LOST, "", 0)
        assert duty.led("", 5) == []
    assert mine.led("me", 10) == [LOST]
    assert mine.led("me", 11) == []
    assert other.led("me", 10) == []
    assert other.led("other", 12) == []


def test_the_loss_of_the_leader_itself_is_kept_for_its_successor() -> None:
    mine, other = Duty("me"), Duty("other")
    for duty in (mine, other):
        assert not duty.deliver(LOST, "old", 0)
        assert duty.led("old", 0.5) == []
    assert mine.led("me", 2) == [LOST]
    assert other.led("me", 2) == []


def test_what_was_kept_for_too_long_is_forgotten() -> None:
    duty = Duty("me")
    duty.deliver(LOST, "", 0)
    assert duty.led("me", 31) == []
