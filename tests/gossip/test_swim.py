"""The membership core under a fake clock and a fake lossy network."""

from __future__ import annotations

import random

import pytest

from osiris_mesh.gossip.message import Kind, Message, PeerState, Update
from osiris_mesh.gossip.swim import Swim
from osiris_mesh.gossip.swim_state import Changed, Effect, Send
from osiris_mesh.settings import GossipSettings
from tests.gossip.fake_mesh import FakeMesh, fake_proof, fake_proven, name

LOCAL = GossipSettings.preset("local")
LAN = GossipSettings.preset("lan")
ME, A, B, C, STRANGER = name(0), name(1), name(2), name(3), name(99)


def core(*members: str, settings: GossipSettings = LOCAL, incarnation: int = 100, now: float = 0.0) -> Swim:
    swim = Swim(
        ME,
        settings,
        incarnation=incarnation,
        prove=lambda number, left: fake_proof(ME, number, left=left),
        proven=fake_proven,
        rng=random.Random(7),
        now=now,
    )
    swim.set_members([*members, ME], now)
    return swim


def claim(state: PeerState, peer: str, incarnation: int = 1, accuser: str = "") -> Update:
    return Update(state, peer, incarnation, fake_proof(peer, incarnation, left=state is PeerState.LEFT), accuser)


def alive(*peers: str, incarnation: int = 1) -> Message:
    return Message(Kind.GOSSIP, known=100, updates=tuple(claim(PeerState.ALIVE, peer, incarnation) for peer in peers))


def sends(effects: list[Effect], kind: Kind) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send) and effect.message.kind is kind]


def changes(effects: list[Effect]) -> list[tuple[str, PeerState]]:
    return [(effect.peer, effect.state) for effect in effects if isinstance(effect, Changed)]


# one core, by hand


def test_newcomers_are_unknown_and_probed_at_once() -> None:
    swim = core()
    pings = sends(swim.set_members([A, B], 0.0), Kind.PING)
    assert {ping.peer for ping in pings} == {A, B}
    assert swim.view() == {A: PeerState.UNKNOWN, B: PeerState.UNKNOWN}


def test_a_ping_is_acknowledged_the_way_it_came() -> None:
    swim = core(A)
    for over_link in (False, True):
        ping = Message(Kind.PING, 9, known=100)
        (ack,) = sends(swim.receive(A, ping, 0.1, over_link=over_link), Kind.ACK)
        assert (ack.peer, ack.message.sequence, ack.over_link) == (A, 9, over_link)


def test_who_does_not_know_our_incarnation_is_told() -> None:
    swim = core(A)
    (ack,) = sends(swim.receive(A, Message(Kind.PING, 9, known=0), 0.1), Kind.ACK)
    assert claim(PeerState.ALIVE, ME, 100) in ack.message.updates


@pytest.mark.parametrize("kind", list(Kind))
def test_a_stranger_gets_no_answer_and_changes_nothing(kind: Kind) -> None:
    swim = core(A)
    swim.receive(A, alive(A), 0.0)
    target = A if kind is Kind.PING_REQ else ""
    message = Message(kind, 1, target, updates=(claim(PeerState.DEAD, A, 1, A), claim(PeerState.ALIVE, STRANGER)))
    assert swim.receive(STRANGER, message, 0.1, over_link=True) == []
    assert swim.view() == {A: PeerState.ALIVE}


def test_gossip_never_adds_a_member() -> None:
    swim = core(A)
    swim.receive(A, alive(A, STRANGER), 0.0)
    assert STRANGER not in swim.view()


def test_a_strangers_accusation_does_not_count() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    swim.receive(A, Message(Kind.GOSSIP, updates=(claim(PeerState.SUSPECT, B, 1, STRANGER),)), 0.1)
    assert swim.state(B) is PeerState.ALIVE


@pytest.mark.parametrize(
    ("before", "update", "after"),
    [
        # SWIM 4.2, the order of precedence
        ([], claim(PeerState.ALIVE, B, 5), PeerState.ALIVE),
        ([], claim(PeerState.SUSPECT, B, 5, C), PeerState.SUSPECT),
        ([], claim(PeerState.DEAD, B, 5, C), PeerState.DEAD),
        ([claim(PeerState.ALIVE, B, 5)], claim(PeerState.SUSPECT, B, 5, C), PeerState.SUSPECT),
        ([claim(PeerState.ALIVE, B, 5)], claim(PeerState.SUSPECT, B, 4, C), PeerState.ALIVE),
        ([claim(PeerState.SUSPECT, B, 5, C)], claim(PeerState.ALIVE, B, 5), PeerState.SUSPECT),
        ([claim(PeerState.SUSPECT, B, 5, C)], claim(PeerState.ALIVE, B, 6), PeerState.ALIVE),
        ([claim(PeerState.SUSPECT, B, 5, C)], claim(PeerState.DEAD, B, 5, C), PeerState.DEAD),
        ([claim(PeerState.DEAD, B, 5, C)], claim(PeerState.SUSPECT, B, 5, C), PeerState.DEAD),
        ([claim(PeerState.DEAD, B, 5, C)], claim(PeerState.ALIVE, B, 5), PeerState.DEAD),
        ([claim(PeerState.DEAD, B, 5, C)], claim(PeerState.ALIVE, B, 6), PeerState.ALIVE),
        ([claim(PeerState.ALIVE, B, 5)], claim(PeerState.LEFT, B, 5), PeerState.LEFT),
        ([claim(PeerState.LEFT, B, 5)], claim(PeerState.DEAD, B, 5, C), PeerState.LEFT),
        ([claim(PeerState.LEFT, B, 5)], claim(PeerState.ALIVE, B, 6), PeerState.ALIVE),
    ],
)
def test_precedence(before: list[Update], update: Update, after: PeerState) -> None:
    swim = core(A, B, C)
    for earlier in before:
        swim.receive(A, Message(Kind.GOSSIP, updates=(earlier,)), 0.0)
    swim.receive(A, Message(Kind.GOSSIP, updates=(update,)), 0.0)
    assert swim.state(B) is after


@pytest.mark.parametrize("state", [PeerState.ALIVE, PeerState.SUSPECT, PeerState.DEAD, PeerState.LEFT])
def test_a_claim_without_the_members_own_signature_is_refused(state: PeerState) -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    accuser = A if state in {PeerState.SUSPECT, PeerState.DEAD} else ""
    forged = [
        Update(state, B, 9, b"x" * 64, accuser),
        Update(state, B, 1, b"x" * 64, accuser),
        Update(state, B, 9, fake_proof(B, 1, left=False), accuser),
    ]
    swim.receive(A, Message(Kind.GOSSIP, updates=tuple(forged)), 0.1)
    assert swim.state(B) is PeerState.ALIVE
    assert swim.refused >= 2


def test_nobody_can_say_for_another_that_it_left() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    swim.receive(A, Message(Kind.GOSSIP, updates=(Update(PeerState.LEFT, B, 1, fake_proof(B, 1, left=False)),)), 0.1)
    assert swim.state(B) is PeerState.ALIVE


@pytest.mark.parametrize("state", [PeerState.SUSPECT, PeerState.DEAD])
def test_an_accusation_of_ourselves_is_refuted(state: PeerState) -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    ping = Message(Kind.PING, 4, known=100, updates=(claim(state, ME, 100, B),))
    (ack,) = sends(swim.receive(A, ping, 0.1), Kind.ACK)
    assert swim.incarnation == 101
    assert claim(PeerState.ALIVE, ME, 101) in ack.message.updates
    assert swim.awareness.score == 1


def test_an_old_accusation_needs_no_new_incarnation() -> None:
    swim = core(A)
    ping = Message(Kind.PING, 4, known=99, updates=(claim(PeerState.DEAD, ME, 99, A),))
    (ack,) = sends(swim.receive(A, ping, 0.1), Kind.ACK)
    assert swim.incarnation == 100
    assert claim(PeerState.ALIVE, ME, 100) in ack.message.updates


def test_after_a_clock_set_back_a_former_life_is_outdone() -> None:
    swim = core(A)
    ping = Message(Kind.PING, 4, known=500, updates=(claim(PeerState.DEAD, ME, 500, A),))
    (ack,) = sends(swim.receive(A, ping, 0.1), Kind.ACK)
    assert claim(PeerState.ALIVE, ME, 501) in ack.message.updates


def test_a_forged_former_life_moves_nothing() -> None:
    swim = core(A)
    forged = Update(PeerState.DEAD, ME, 2**61, b"x" * 64, A)
    swim.receive(A, Message(Kind.PING, 4, known=100, updates=(forged,)), 0.1)
    assert swim.incarnation == 100


def test_a_suspect_hears_of_it_from_the_next_message() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    swim.receive(A, Message(Kind.GOSSIP, known=100, updates=(claim(PeerState.SUSPECT, B, 1, A),)), 0.1)
    for _ in range(50):  # past every retransmission
        swim.receive(A, Message(Kind.PING, 1, known=100), 0.1)
    (ack,) = sends(swim.receive(B, Message(Kind.PING, 2, known=100), 0.2), Kind.ACK)
    assert ack.message.updates[0] == claim(PeerState.SUSPECT, B, 1, A)


def test_an_unanswered_probe_asks_others_and_the_link_then_suspects() -> None:
    swim = core(A, B, C)
    swim.receive(A, alive(A, B, C), 0.0)
    for peer in (A, B, C):  # the newcomers' probes
        for sequence in list(swim._probing._probes):
            swim.receive(peer, Message(Kind.ACK, sequence, known=100), 0.0)
    swim.tick(1.0)  # starts the probe of whose turn it is
    for sequence, probe in list(swim._probing._probes.items()):
        if probe.peer != B:
            swim.receive(probe.peer, Message(Kind.ACK, sequence, known=100), 1.0)
    swim.probe(B, 1.0)
    asked = swim.tick(1.0 + LOCAL.probe_timeout_s)
    failed = swim.tick(1.0 + LOCAL.probe_interval_s)
    requests = [send for send in sends(asked, Kind.PING_REQ) if send.message.target == B]
    assert {send.peer for send in requests} == {A, C}
    assert [send.peer for send in sends(asked, Kind.PING) if send.over_link] == [B]
    assert (B, PeerState.SUSPECT) in changes(failed)
    assert swim.awareness.score > 0, "no helper sent as much as a NACK: it may be us"


def test_a_helper_probes_and_passes_the_answer_on() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    (ping,) = sends(swim.receive(A, Message(Kind.PING_REQ, 77, B, known=100), 0.1), Kind.PING)
    assert ping.peer == B
    (ack,) = sends(swim.receive(B, Message(Kind.ACK, ping.message.sequence, known=100), 0.15), Kind.ACK)
    assert (ack.peer, ack.message.sequence) == (A, 77)


def test_a_helper_without_an_answer_says_that_it_is_well() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    swim.receive(A, Message(Kind.PING_REQ, 77, B, known=100), 0.1)
    nacks = sends(swim.tick(0.1 + 0.8 * LOCAL.probe_timeout_s), Kind.NACK)
    assert [(nack.peer, nack.message.sequence) for nack in nacks] == [(A, 77)]
    assert sends(swim.tick(0.1 + LOCAL.probe_interval_s), Kind.NACK) == [], "once"


def test_probes_for_others_are_bounded() -> None:
    swim = core(A, B)
    for number in range(2000):
        swim.receive(A, Message(Kind.PING_REQ, number, B, known=100), 0.1)
    assert len(swim._probing._relays) == 256


def test_an_ack_counts_only_from_who_was_asked() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    (ping,) = sends(swim.probe(A, 1.0), Kind.PING) or sends(swim.set_members([A, B, C], 1.0), Kind.PING)
    swim.receive(B, Message(Kind.ACK, ping.message.sequence, known=100), 1.0)
    assert ping.message.sequence in swim._probing._probes


def test_a_removed_member_is_forgotten_with_all_that_concerns_it() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    swim.receive(A, Message(Kind.GOSSIP, updates=(claim(PeerState.SUSPECT, B, 1, A),)), 0.1)
    swim.set_members([A], 0.2)
    assert swim.view() == {A: PeerState.ALIVE}
    assert swim.receive(B, Message(Kind.PING, 1), 0.3) == []
    for step in range(40):
        for effect in swim.tick(0.3 + step * 0.05):
            assert effect.peer == A
            assert not isinstance(effect, Send) or all(update.peer != B for update in effect.message.updates)


def test_time_in_which_we_did_not_run_does_not_count_against_others() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    swim.receive(A, Message(Kind.GOSSIP, updates=(claim(PeerState.SUSPECT, B, 1, A),)), 0.0)
    effects = swim.tick(30.0)  # this process was stopped for half a minute
    assert changes(effects) == []


def test_after_leaving_nothing_is_due_and_all_were_told() -> None:
    swim = core(A, B)
    left = sends(swim.leave(), Kind.GOSSIP)
    assert {send.peer for send in left} == {A, B}
    assert {send.over_link for send in left} == {True, False}
    assert all(send.message.updates == (claim(PeerState.LEFT, ME, 100),) for send in left)
    assert swim.due() == float("inf")
    accusation = Message(Kind.PING, 4, known=100, updates=(claim(PeerState.DEAD, ME, 100, B),))
    swim.receive(A, accusation, 0.2)
    assert swim.incarnation == 100, "who leaves does not refute"


def test_a_sync_tells_everything_and_is_answered_with_everything() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    (sync,) = sends(swim.sync(A), Kind.SYNC)
    assert sync.over_link
    assert {update.peer for update in sync.message.updates} == {ME, A, B}
    (answer,) = sends(swim.receive(A, Message(Kind.SYNC, known=100), 0.1, over_link=True), Kind.SYNC_ACK)
    assert {update.peer for update in answer.message.updates} == {ME, A, B}
    assert swim.receive(A, Message(Kind.SYNC, known=100), 0.1) == [], "never in a datagram"


def test_a_death_out_of_a_whole_view_is_a_suspicion_first() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    swim.receive(A, Message(Kind.SYNC_ACK, known=100, updates=(claim(PeerState.DEAD, B, 1, A),)), 0.1, over_link=True)
    assert swim.state(B) is PeerState.SUSPECT


# many cores


def settled(count: int, *, settings: GossipSettings = LOCAL, seed: int = 0, loss: float = 0.0) -> FakeMesh:
    mesh = FakeMesh(count, settings=settings, seed=seed, loss=loss)
    assert mesh.run(20.0, until=lambda: all(mesh.agree(peer, PeerState.ALIVE) for peer in mesh.names)), (
        "not all came to know all"
    )
    return mesh


@pytest.mark.parametrize("count", [2, 3, 5, 50])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_member_is_dead_to_all_within_three_seconds(count: int, seed: int) -> None:
    mesh = settled(count, seed=seed)
    victim, start = mesh.names[-1], mesh.now
    mesh.kill(victim)
    assert mesh.run(10.0, until=lambda: mesh.agree(victim, PeerState.DEAD))
    assert mesh.now - start <= (3.0 if count <= 5 else 4.5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_with_links_that_go_down_it_is_half_that(count: int) -> None:
    mesh = settled(count)
    victim, start = mesh.names[1], mesh.now
    mesh.kill(victim, links_tell=True)
    assert mesh.run(10.0, until=lambda: mesh.agree(victim, PeerState.DEAD))
    assert mesh.now - start <= 1.1


def test_an_answer_on_its_way_when_the_link_went_down_does_not_hide_the_death() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    running = next(probe for probe in swim._probing._probes.values() if probe.peer == B)
    (ping,) = sends(swim.probe(B, 0.01), Kind.PING)
    assert ping.message.sequence != running.sequence
    swim.receive(B, Message(Kind.ACK, running.sequence, known=100), 0.011)
    effects: list[Effect] = []
    while swim.due() <= 0.01 + LOCAL.probe_interval_s:
        effects += swim.tick(swim.due())
    assert (B, PeerState.SUSPECT) in changes(effects)


def test_who_hears_of_a_suspicion_looks_for_itself() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    for probe in list(swim._probing._probes.values()):
        swim.receive(probe.peer, Message(Kind.ACK, probe.sequence, known=100), 0.0)
    heard = Message(Kind.GOSSIP, known=100, updates=(claim(PeerState.SUSPECT, B, 1, A),))
    assert [ping.peer for ping in sends(swim.receive(A, heard, 0.1), Kind.PING)] == [B]


def test_in_a_large_mesh_only_some_look_for_themselves() -> None:
    mesh = settled(50)
    victim = mesh.names[7]
    incarnation = mesh.nodes[victim].incarnation
    proof = fake_proof(victim, incarnation, left=False)
    suspicion = Update(PeerState.SUSPECT, victim, incarnation, proof, mesh.names[0])
    looking = 0
    for peer, node in mesh.nodes.items():
        if peer not in {victim, mesh.names[0]}:
            effects = node.receive(mesh.names[0], Message(Kind.GOSSIP, updates=(suspicion,)), mesh.now)
            looking += len(sends(effects, Kind.PING))
    assert 1 <= looking <= 15


@pytest.mark.parametrize("preset", ["local", "lan", "wan"])
def test_death_is_noticed_in_the_presets_time_at_five_percent_loss(preset: str) -> None:
    settings = GossipSettings.preset(preset)
    mesh = settled(5, settings=settings, seed=3, loss=0.05)
    victim, start = mesh.names[2], mesh.now
    mesh.kill(victim)
    assert mesh.run(120.0, until=lambda: mesh.agree(victim, PeerState.DEAD))
    assert mesh.now - start <= {"local": 3.0, "lan": 12.0, "wan": 60.0}[preset]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize(("count", "seconds"), [(3, 1200.0), (5, 600.0), (50, 60.0)])
def test_nobody_alive_is_declared_dead_at_five_percent_loss(count: int, seconds: float, links: bool) -> None:
    mesh = settled(count, seed=5, loss=0.05)
    mesh.links = links
    start = mesh.now  # while starting, who is not up yet is dead for a moment
    mesh.run(seconds)
    assert [told for told in mesh.ever(PeerState.DEAD) if told[1] > start] == []


def test_without_links_loss_makes_suspicions_which_are_refuted() -> None:
    mesh = settled(5, seed=6, loss=0.25)
    mesh.links = False
    start = mesh.now
    mesh.run(600.0)
    assert [told for told in mesh.ever(PeerState.SUSPECT) if told[1] > start], "the test is too gentle"
    mesh.loss = 0.0
    assert mesh.run(10.0, until=lambda: all(mesh.agree(peer, PeerState.ALIVE) for peer in mesh.names))


def test_a_member_cut_off_from_one_other_is_saved_by_the_rest() -> None:
    mesh = settled(5)
    mesh.partition(mesh.names[:1], mesh.names[1:2])
    start = mesh.now
    mesh.run(60.0)
    assert [told for told in mesh.ever(PeerState.SUSPECT) if told[1] > start] == []


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_nobody_who_pauses_now_and_then_is_declared_dead(links: bool) -> None:
    mesh = settled(50, settings=LAN, seed=13, loss=0.05)
    mesh.links = links
    start, rng = mesh.now, random.Random(13)
    while mesh.now < start + 240.0:
        rested = [peer for peer in mesh.names if mesh.paused.get(peer, -9.0) < mesh.now - 3.0]
        mesh.pause(rng.choice(rested), 3.0)
        mesh.run(rng.uniform(3.0, 10.0))
    assert [told for told in mesh.ever(PeerState.SUSPECT) if told[1] > start], "the pauses were noticed at all"
    assert [told for told in mesh.ever(PeerState.DEAD) if told[1] > start] == []


def test_a_suspect_is_asked_once_more_before_it_is_declared_dead() -> None:
    swim = core(A, B)
    swim.receive(A, alive(A, B), 0.0)
    for sequence, probe in list(swim._probing._probes.items()):
        swim.receive(probe.peer, Message(Kind.ACK, sequence, known=100), 0.0)
    accusation = claim(PeerState.SUSPECT, B, 1, A)
    swim.receive(A, Message(Kind.GOSSIP, known=100, updates=(accusation,)), 0.0)
    asked: list[Send] = []
    now = 0.0
    while not asked:
        now = swim.due()
        pings = sends(swim.tick(now), Kind.PING)
        asked = [ping for ping in pings if ping.peer == B and ping.over_link]
        for ping in pings:
            if ping.peer == A:
                swim.receive(A, Message(Kind.ACK, ping.message.sequence, known=100), now)
    assert swim.state(B) is PeerState.SUSPECT
    assert asked[0].message.updates[0] == accusation
    swim.receive(
        B, Message(Kind.ACK, asked[0].message.sequence, known=100, updates=(claim(PeerState.ALIVE, B, 2),)), now
    )
    assert swim.state(B) is PeerState.ALIVE


def test_a_pause_shorter_than_the_suspicion_is_refuted() -> None:
    mesh = settled(5, settings=LAN, seed=4)
    start = mesh.now
    for _ in range(10):
        mesh.pause(mesh.names[2], 2.0)
        mesh.run(20.0)
    assert mesh.ever(PeerState.SUSPECT), "the pause was noticed at all"
    assert [told for told in mesh.ever(PeerState.DEAD) if told[1] > start] == []
    assert mesh.agree(mesh.names[2], PeerState.ALIVE)


@pytest.mark.parametrize("incarnation", [0, 1], ids=["clock went on", "clock set back"])
def test_a_killed_member_comes_back(incarnation: int) -> None:
    mesh = settled(5, seed=8)
    victim = mesh.names[3]
    mesh.kill(victim)
    assert mesh.run(10.0, until=lambda: mesh.agree(victim, PeerState.DEAD))
    mesh.run(5.0)
    mesh.start(victim, incarnation)
    start = mesh.now
    assert mesh.run(10.0, until=lambda: all(mesh.agree(peer, PeerState.ALIVE) for peer in mesh.names)), (
        "the one that came back and the others know each other"
    )
    assert mesh.now - start <= 1.0


def test_a_healed_partition_is_noticed_without_any_hint() -> None:
    mesh = settled(5, seed=9)
    left, right = mesh.names[:2], mesh.names[2:]
    mesh.partition(left, right)
    assert mesh.run(
        10.0, until=lambda: all(mesh.nodes[one].state(two) is PeerState.DEAD for one in left for two in right)
    )
    mesh.cut.clear()
    assert mesh.run(15.0, until=lambda: all(mesh.agree(peer, PeerState.ALIVE) for peer in mesh.names))


def test_leaving_is_no_failure() -> None:
    mesh = settled(5)
    leaver = mesh.names[4]
    mesh.effects(leaver, mesh.nodes[leaver].leave())
    mesh.run(0.1)
    mesh.kill(leaver, links_tell=True)
    assert mesh.run(2.0, until=lambda: mesh.agree(leaver, PeerState.LEFT))
    mesh.run(20.0)
    assert mesh.agree(leaver, PeerState.LEFT)
    assert not [told for told in mesh.ever(PeerState.DEAD) if told[2] == leaver]


def test_a_newcomer_is_known_by_all_and_knows_all() -> None:
    mesh = settled(4)
    newcomer = name(4)
    mesh.names.append(newcomer)
    mesh.told[newcomer] = []
    mesh._lives[newcomer] = 0
    mesh.start(newcomer)
    for peer, node in mesh.nodes.items():
        mesh.effects(peer, node.set_members(mesh.names, mesh.now))
    assert mesh.run(1.0, until=lambda: all(mesh.agree(peer, PeerState.ALIVE) for peer in mesh.names))


def test_every_message_of_a_whole_run_survives_its_encoding() -> None:
    mesh = FakeMesh(5, settings=LOCAL, seed=11, loss=0.05)
    mesh.through_codec = True
    mesh.run(3.0)
    mesh.kill(mesh.names[0])
    assert mesh.run(5.0, until=lambda: mesh.agree(mesh.names[0], PeerState.DEAD))


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        mesh = FakeMesh(5, settings=LOCAL, seed=12, loss=0.1)
        mesh.run(5.0)
        mesh.kill(mesh.names[0])
        mesh.run(5.0)
        runs.append((mesh.told, mesh.sent))
    assert runs[0] == runs[1]


def test_a_quiet_mesh_is_quiet() -> None:
    mesh = settled(5)
    mesh.run(10.0)
    before = mesh.sent
    mesh.run(10.0)
    # a probe a period and its answer, a sync now and then
    assert (mesh.sent - before) / 10.0 / 5 <= 2 / LOCAL.probe_interval_s + 1
