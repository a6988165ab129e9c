"""Answers of the zone, without a network."""

from __future__ import annotations

import struct

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from osiris_mesh.gateway.dns.directory import Directory, DnsNode, Place, Service, host_label, service_text
from osiris_mesh.gateway.dns.zone import MAX_UDP, Query, answer, failure, read, wire

NODES = (
    DnsNode("laptop", "12D3KooWlaptop", ("127.0.0.1", "::1"), 7411),
    DnsNode("attic", "12D3KooWattic", ("10.0.0.7",), 7412),
)
SHARPEN = Service(
    "image-processing/sharpen", "1.2.0", "ab" * 32, (Place("attic", 7412, 10, 3), Place("laptop", 7411, 0, 5))
)
OTHERS = (
    Service("image-processing/blur", "0.1.0", "cd" * 32, (Place("gone", 1),)),
    Service("acme.com/text/Count_Words", "2.0.0", "ef" * 32, (Place("laptop", 7411),)),
    Service("default/v1.add", "1.0.0", "01" * 32, (Place("laptop", 7411),)),
)
DIRECTORY = Directory.build((SHARPEN, *OTHERS), NODES, serial=7, http_port=7480, http_host="laptop")


def ask(name: str, kind: str, directory: Directory = DIRECTORY, **options: object) -> dns.message.Message:
    query = read(dns.message.make_query(name, kind, **options).to_wire())  # type: ignore[arg-type]
    assert isinstance(query, Query)
    return dns.message.from_wire(wire(answer(query, directory), 65_535))


def texts(reply: dns.message.Message) -> list[str]:
    return sorted(str(record) for rrset in reply.answer for record in rrset)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("sharpen.image-processing.mesh", "SRV", ["0 5 7411 laptop.node.mesh.", "10 3 7412 attic.node.mesh."]),
        ("SHARPEN.Image-Processing.MESH", "SRV", ["0 5 7411 laptop.node.mesh.", "10 3 7412 attic.node.mesh."]),
        (
            "_osiris._tcp.sharpen.image-processing.mesh",
            "SRV",
            ["0 5 7411 laptop.node.mesh.", "10 3 7412 attic.node.mesh."],
        ),
        ("_http._tcp.sharpen.image-processing.mesh", "SRV", ["0 1 7480 laptop.node.mesh."]),
        ("sharpen.image-processing.mesh", "A", ["10.0.0.7", "127.0.0.1"]),
        ("sharpen.image-processing.mesh", "AAAA", ["::1"]),
        (
            "sharpen.image-processing.mesh",
            "TXT",
            [f'"v=osiris1" "name=image-processing/sharpen" "version=1.2.0" "digest={"ab" * 32}"'],
        ),
        ("count_words.text.acme.com.mesh", "SRV", ["0 1 7411 laptop.node.mesh."]),
        ("v1.add.default.mesh", "SRV", ["0 1 7411 laptop.node.mesh."]),
        (r"v1\.add.default.mesh", "SRV", ["0 1 7411 laptop.node.mesh."]),
        ("image-processing.mesh", "PTR", ["blur.image-processing.mesh.", "sharpen.image-processing.mesh."]),
        ("_services._dns-sd._udp.mesh", "PTR", ["_osiris._tcp.mesh."]),
        ("b._dns-sd._udp.mesh", "PTR", ["mesh."]),
        (
            r"sharpen\.image-processing._osiris._tcp.mesh",
            "SRV",
            ["0 5 7411 laptop.node.mesh.", "10 3 7412 attic.node.mesh."],
        ),
        ("laptop.node.mesh", "A", ["127.0.0.1"]),
        ("attic.node.mesh", "TXT", ['"peer=12D3KooWattic" "port=7412"']),
        ("mesh", "NS", ["ns.mesh."]),
        ("ns.mesh", "A", ["127.0.0.1"]),
        ("mesh", "SOA", ["ns.mesh. hostmaster.mesh. 7 3600 600 86400 5"]),
        ("sharpen.image-processing.mesh", "ANY", ['"RFC8482" ""']),
    ],
)
def test_answers(name: str, kind: str, expected: list[str]) -> None:
    reply = ask(name, kind)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.flags & dns.flags.AA
    assert texts(reply) == expected


def test_instances_are_one_label_each() -> None:
    reply = ask("_osiris._tcp.mesh", "PTR")
    assert r"sharpen\.image-processing._osiris._tcp.mesh." in texts(reply)
    assert len(texts(reply)) == 4


def test_addresses_of_targets_come_with_the_answer() -> None:
    reply = ask("sharpen.image-processing.mesh", "SRV")
    assert sorted(str(rrset) for rrset in reply.additional) == [
        "attic.node.mesh. 5 IN A 10.0.0.7",
        "laptop.node.mesh. 5 IN A 127.0.0.1",
        "laptop.node.mesh. 5 IN AAAA ::1",
    ]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nothing.image-processing.mesh", "SRV", dns.rcode.NXDOMAIN),
        ("nothing.mesh", "A", dns.rcode.NXDOMAIN),
        ("nobody.node.mesh", "A", dns.rcode.NXDOMAIN),
        ("x.sharpen.image-processing.mesh", "A", dns.rcode.NXDOMAIN),
        ("image-processing.mesh", "SRV", dns.rcode.NOERROR),
        ("com.mesh", "A", dns.rcode.NOERROR),  # stands between acme.com and the zone (RFC 8020)
        ("node.mesh", "A", dns.rcode.NOERROR),
        ("sharpen.image-processing.mesh", "MX", dns.rcode.NOERROR),
        ("blur.image-processing.mesh", "SRV", dns.rcode.NOERROR),  # its only place is gone
        ("attic.node.mesh", "AAAA", dns.rcode.NOERROR),
    ],
)
def test_no_such_name_and_no_such_record_are_told_apart_and_carry_the_soa(
    name: str, kind: str, code: dns.rcode.Rcode
) -> None:
    reply = ask(name, kind)
    assert reply.rcode() == code
    assert not reply.answer
    assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]


@pytest.mark.parametrize("name", ["example.com", "mesh.example.com", "1.0.0.127.in-addr.arpa", "."])
def test_other_zones_are_refused(name: str) -> None:
    reply = read(dns.message.make_query(name, "A").to_wire())
    assert isinstance(reply, bytes)
    assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED


def test_what_is_no_plain_question_is_refused_with_the_right_code() -> None:
    update = dns.message.make_query("mesh", "SOA")
    update.set_opcode(dns.opcode.NOTIFY)
    newer = dns.message.make_query("mesh", "SOA", use_edns=1)
    none = dns.message.Message()
    transfer = dns.message.make_query("mesh", "AXFR")
    expected = [dns.rcode.NOTIMP, dns.rcode.BADVERS, dns.rcode.FORMERR, dns.rcode.REFUSED]
    for message, code in zip((update, newer, none, transfer), expected, strict=True):
        reply = read(message.to_wire())
        assert isinstance(reply, bytes)
        parsed = dns.message.from_wire(reply)
        assert (parsed.rcode(), parsed.id) == (code, message.id)


def test_answers_and_scraps_get_no_reply() -> None:
    reply = dns.message.make_response(dns.message.make_query("mesh", "SOA"))
    assert read(reply.to_wire()) is None
    assert read(b"") is None
    assert read(bytes(11)) is None


def test_a_long_answer_is_cut_and_says_so() -> None:
    services = [Service(f"many/function-number-{i}", "1.0.0", "") for i in range(200)]
    directory = Directory.build(services, NODES)
    query = read(dns.message.make_query("many.mesh", "PTR", use_edns=0, payload=4096).to_wire())
    assert isinstance(query, Query)
    assert query.size == MAX_UDP
    data = wire(answer(query, directory), query.size)
    cut = dns.message.from_wire(data)
    assert len(data) <= MAX_UDP
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    whole = dns.message.from_wire(wire(answer(query, directory), 65_535))
    assert not whole.flags & dns.flags.TC
    assert len(texts(whole)) == 200


def test_a_question_of_another_kind_without_edns_has_512_bytes() -> None:
    query = read(dns.message.make_query("mesh", "SOA", use_edns=False).to_wire())
    assert isinstance(query, Query)
    assert query.size == 512


def test_registries_are_asked_for_what_reads_like_a_function() -> None:
    cases = {
        "Sharpen.image.mesh": ("image/Sharpen", "image/sharpen"),
        "sharpen.image.acme.com.mesh": ("acme.com/image/sharpen",),
        "_osiris._tcp.sharpen.image.mesh": ("image/sharpen",),
        "image.mesh": (),
        "mesh": (),
        "x._osiris._tcp.mesh": (),
    }
    for name, expected in cases.items():
        query = read(dns.message.make_query(name, "SRV").to_wire())
        assert isinstance(query, Query)
        assert query.function == expected
    query = read(dns.message.make_query("sharpen.image.mesh", "SRV").to_wire())
    assert isinstance(query, Query)
    outside = Service("image/sharpen", "1.0.0", "", (Place("functions.acme.com", 443, 20, 1, outside=True),))
    assert texts(answer(query, Directory(), [outside])) == ["20 1 443 functions.acme.com."]
    assert failure(query).rcode() == dns.rcode.SERVFAIL


def test_labels_of_nodes_are_host_names_and_told_apart() -> None:
    assert host_label("Big_Box.local", "12D3KooWabcdefgh") == "big-box-local"
    assert host_label("box", "12D3KooWABCDEFGH", {"box"}) == "box-abcdefgh"
    assert host_label("...", "p") == "node"
    assert service_text("acme.com/image/Sharpen") == "sharpen.image.acme.com"


NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,20}/[a-zA-Z0-9][a-zA-Z0-9_-]{0,20}", fullmatch=True)


@given(st.lists(NAMES, max_size=20))
def test_every_function_is_found_by_its_name_and_its_namespace(names: list[str]) -> None:
    services = [Service(name, "1.0.0", "", (Place("laptop", 7411),)) for name in names]
    directory = Directory.build(services, NODES)
    for name in names:
        text = service_text(name)
        if text.endswith(".node") or text == "ns":
            continue
        assert texts(ask(f"{text}.mesh", "SRV", directory)) == ["0 1 7411 laptop.node.mesh."]
        assert f"{text}.mesh." in texts(ask(f"{text.partition('.')[2]}.mesh", "PTR", directory))


QUERY = dns.message.make_query("sharpen.image-processing.mesh", "SRV", use_edns=0).to_wire()


@settings(max_examples=400)
@given(st.binary(max_size=600))
@example(QUERY[:12])
@example(QUERY[:-1])
@example(QUERY + b"\0")
@example(b"\0\1\0\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1")
def test_any_bytes_are_answered_or_dropped(data: bytes) -> None:
    _answers_or_drops(data)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(QUERY) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_query_is_answered_or_dropped(changes: list[tuple[int, int]]) -> None:
    data = bytearray(QUERY)
    for place, value in changes:
        data[place] = value
    _answers_or_drops(bytes(data))


@pytest.mark.parametrize(
    ("counts", "rest"),
    [
        ((1, 0, 0, 20_000), b"\x04mesh\0\0\x21\0\1" + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4" * 3500),
        ((60_000, 0, 0, 0), b"\x04mesh\0\0\x21\0\1" * 6000),
        ((1, 0, 0, 1), b"\x04mesh\0\0\x21\0\1" + b"\0\0\x29\4\xd0\0\0\0\0\xff\xf0" + b"\0\xff\0\0" * 16_380),
    ],
    ids=["records", "questions", "options"],
)
def test_what_would_take_long_is_not_taken_apart(
    counts: tuple[int, ...], rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = struct.pack("!6H", 7, 0x100, *counts) + rest
    monkeypatch.setattr(dns.message, "from_wire", None)
    reply = read(data[:65_535])
    monkeypatch.undo()
    assert isinstance(reply, bytes)
    assert dns.message.from_wire(reply).rcode() == dns.rcode.FORMERR
    assert reply[:2] == data[:2]


def _answers_or_drops(data: bytes) -> None:
    query = read(data)
    if query is None:
        return
    reply = query if isinstance(query, bytes) else wire(answer(query, DIRECTORY), query.size)
    assert reply[:2] == data[:2]
    assert reply[2] & 0x80
    assert len(reply) <= MAX_UDP
