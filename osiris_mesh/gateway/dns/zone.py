"""Answers of the zone ``mesh``: a pure function from a query and a directory to a reply.

==============================================  ==========================================================
asked                                           answered
==============================================  ==========================================================
``SRV sharpen.image-processing.mesh``           nodes and providers that serve it, warm ones first; also below
                                                ``_osiris._tcp.``; below ``_http._tcp.`` this node's HTTP face
``TXT sharpen.image-processing.mesh``           ``v=osiris1``, name, version, digest
``A``, ``AAAA sharpen.image-processing.mesh``   addresses of the nodes that serve it
``PTR image-processing.mesh``                   the functions of a namespace
``PTR _osiris._tcp.mesh``                       all functions, as DNS-SD instances (RFC 6763)
``A``, ``AAAA``, ``TXT laptop.node.mesh``       a node
``SOA``, ``NS mesh``                            the zone
==============================================  ==========================================================

Names that do not exist get NXDOMAIN, names without that type get an empty answer, both with the SOA (RFC 2308).
Sources: RFC 1035, 2308, 2782, 4343, 6763, 6891 (EDNS), 8482 (ANY).
"""

from __future__ import annotations

import ipaddress
import operator
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.HINFO
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.rrset

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.gateway.dns.directory import MAX_LABEL, Directory, DnsNode, Place, Service, service_text

__all__ = ["MAX_UDP", "ORIGIN", "Query", "answer", "failure", "read", "wire"]

ORIGIN: Final = dns.name.from_text("mesh.")
MAX_UDP: Final = 1232
"""Bytes of a datagram that no network on the way has to cut (DNS flag day 2020)."""
TTL: Final = 5
"""Seconds an answer holds: instances come and go."""
MAX_PLACES: Final = 32
"""Places one answer names; more help no caller."""
MAX_POINTERS: Final = 2000
_OLD_UDP: Final = 512
_HEADER: Final = 12
_COUNTS: Final = struct.Struct("!4H")
_MOST: Final = (1, 1, 1, 4)
"""Questions, answers, authorities and additional records a query may have: those of IXFR, EDNS and signatures."""
_MAX_QUERY: Final = 4096
_IN: Final = dns.rdataclass.IN
_T = dns.rdatatype
_NODE: Final = "node"
_SD: Final = "_osiris._tcp"
_HTTP: Final = "_http._tcp"
_BROWSE: Final = frozenset({"b._dns-sd._udp", "db._dns-sd._udp", "lb._dns-sd._udp"})
_SERVICES: Final = "_services._dns-sd._udp"


# dnspython gives its records' constructors no types.
_Make = Callable[..., dns.rdata.Rdata]
_A: Final[_Make] = dns.rdtypes.IN.A.A
_AAAA: Final[_Make] = dns.rdtypes.IN.AAAA.AAAA
_HINFO: Final[_Make] = dns.rdtypes.ANY.HINFO.HINFO
_NS: Final[_Make] = dns.rdtypes.ANY.NS.NS
_PTR: Final[_Make] = dns.rdtypes.ANY.PTR.PTR
_SOA: Final[_Make] = dns.rdtypes.ANY.SOA.SOA
_SRV: Final[_Make] = dns.rdtypes.IN.SRV.SRV
_TXT: Final[_Make] = dns.rdtypes.ANY.TXT.TXT


@dataclass(frozen=True, slots=True)
class Query:
    """One question that is ours to answer.

    Attributes:
        message: As it came.
        name: The name asked for.
        text: The same below the zone: lower case, labels joined by dots; empty for the zone itself.
        labels: The same, label by label, as written.
        kind: Type asked for.
        size: Bytes the one who asks takes in a datagram.
    """

    message: dns.message.Message
    name: dns.name.Name
    text: str
    labels: tuple[str, ...]
    kind: dns.rdatatype.RdataType
    size: int

    @property
    def function(self) -> tuple[str, ...]:
        """Names of functions the question may be about, to be asked of registries; as written, then in lower case."""
        labels = self.labels
        if len(labels) > 2 and labels[-1].lower() == "_tcp":
            return ()
        if len(labels) >= 4 and labels[0].startswith("_") and labels[1].lower() == "_tcp":
            labels = labels[2:]
        if len(labels) < 2 or any(not label or label.startswith("_") or "/" in label for label in labels):
            return ()
        vendor = ".".join(labels[2:]).lower()
        found = [f"{labels[1]}/{labels[0]}", f"{labels[1]}/{labels[0]}".lower()]
        return tuple(filter(_is_name, dict.fromkeys(f"{vendor}/{each}" if vendor else each for each in found)))


def read(data: bytes) -> Query | bytes | None:
    """Read a query.

    Returns:
        The question; or the bytes of a reply that says what is wrong with it; or None: no reply is due (an answer, or
        too short to be anything).
    """
    if len(data) < _HEADER or data[2] & 0x80:
        return None
    if len(data) > _MAX_QUERY or any(map(operator.gt, _COUNTS.unpack_from(data, 4), _MOST)):
        # No query is like that, and taking one apart would keep the loop busy for tenths of a second.
        return _malformed(data)
    try:
        message = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError, IndexError, KeyError):
        return _malformed(data)
    size = max(message.payload, _OLD_UDP) if message.edns >= 0 else _OLD_UDP
    if message.opcode() != dns.opcode.QUERY:
        return _refuse(message, dns.rcode.NOTIMP)
    if message.edns > 0:
        return _refuse(message, dns.rcode.BADVERS)
    if len(message.question) != 1:
        return _refuse(message, dns.rcode.FORMERR)
    question = message.question[0]
    if question.rdclass not in (_IN, dns.rdataclass.ANY) or not question.name.is_subdomain(ORIGIN):
        return _refuse(message, dns.rcode.REFUSED)
    if question.rdtype in (_T.AXFR, _T.IXFR):
        return _refuse(message, dns.rcode.REFUSED)
    labels = tuple(
        # A byte beyond ASCII is in no name of ours, and must not be taken for another one.
        label.decode("ascii", "backslashreplace")
        for label in question.name.relativize(ORIGIN).labels
    )
    return Query(message, question.name, ".".join(labels).lower(), labels, question.rdtype, min(size, MAX_UDP))


def answer(query: Query, directory: Directory, found: Sequence[Service] = ()) -> dns.message.Message:
    """Return the reply to a question.

    Args:
        query: The question.
        directory: What the mesh has.
        found: What registries know of the same name, where the directory has nothing.
    """
    reply = _reply(query.message)
    records, exists = _records(query, directory, found)
    if query.kind == _T.ANY and records:
        # Everything at once serves floods better than anybody (RFC 8482).
        records = [_HINFO(_IN, _T.HINFO, b"RFC8482", b"")]
    elif query.kind != _T.ANY:
        records = [record for record in records if record.rdtype == query.kind]
    if records:
        reply.answer.append(_rrset(query.name, records))
        _add_targets(reply, records, directory)
        return reply
    if not exists:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    reply.authority.append(_rrset(ORIGIN, [_soa(directory)]))
    return reply


def failure(query: Query) -> dns.message.Message:
    """Return the reply that says the question could not be answered now."""
    reply = _reply(query.message)
    reply.set_rcode(dns.rcode.SERVFAIL)
    return reply


def wire(reply: dns.message.Message, size: int) -> bytes:
    """Return a reply's bytes, at most ``size``: one that is longer is cut to its question and says so (RFC 2181, 9)."""
    try:
        data = reply.to_wire(max_size=max(size, _OLD_UDP))
        if len(data) <= size:
            return data
    except dns.exception.TooBig:
        pass
    for section in (reply.answer, reply.authority, reply.additional):
        section.clear()
    reply.flags |= dns.flags.TC
    return reply.to_wire(max_size=_OLD_UDP)


def _is_name(text: str) -> bool:
    try:
        FunctionName.parse(text)
    except UsageError:
        return False
    return True


def _records(query: Query, directory: Directory, found: Sequence[Service]) -> tuple[list[dns.rdata.Rdata], bool]:
    """Return all records of a name, and whether it exists."""
    text = query.text
    if not text:
        host = _name("ns")
        return [_soa(directory), _NS(_IN, _T.NS, host)], True
    if text == "ns":
        return list(_addresses(directory.origin)), True
    if text in _BROWSE:
        return [_pointer(ORIGIN)], True
    if text == _SERVICES:
        return [_pointer(_name(_SD))], True
    if text == _SD:
        names = (_instance(row[0].name) for row in directory.services.values())
        return [_pointer(name) for _, name in zip(range(MAX_POINTERS), filter(None, names), strict=False)], True
    if text.endswith(f".{_SD}"):
        # An instance is one label, dots and all (RFC 6763, 4.3).
        services = directory.services.get(text[: -len(_SD) - 1], ()) if len(query.labels) == 3 else ()
        return [*_srv(services, directory), *_txt(services)], bool(services)
    for prefix in (f"{_SD}.", f"{_HTTP}."):
        if text.startswith(prefix):
            services = directory.services.get(text[len(prefix) :], ()) or found
            return _below(services, directory, http=prefix.startswith(_HTTP)), bool(services)
    label, _, rest = text.partition(".")
    if rest == _NODE and label in directory.nodes:
        node = directory.nodes[label]
        return [*_addresses(node.addresses), _text([f"peer={node.peer}", f"port={node.port}"])], True
    services = directory.services.get(text, ()) or found
    children = directory.children.get(text, ())
    records: list[dns.rdata.Rdata] = [_pointer(_name(child)) for child in children[:MAX_POINTERS]]
    if services:
        records += [*_srv(services, directory), *_txt(services), *_places_addresses(services, directory)]
    between = text in {_NODE, "_tcp", "_udp", "_dns-sd._udp"} or text in directory.children
    return records, bool(services) or between


def _below(services: Sequence[Service], directory: Directory, *, http: bool) -> list[dns.rdata.Rdata]:
    if not http:
        return list(_srv(services, directory))
    if not services or not directory.http_port or directory.http_host not in directory.nodes:
        return []
    return [_service_record(Place(directory.http_host, directory.http_port))]


def _srv(services: Sequence[Service], directory: Directory) -> Iterator[dns.rdata.Rdata]:
    places = sorted(
        {place for service in services for place in service.places if place.outside or place.host in directory.nodes},
        key=lambda place: (place.priority, -place.weight, place.host, place.port),
    )
    for place in places[:MAX_PLACES]:
        yield _service_record(place)


def _service_record(place: Place) -> dns.rdata.Rdata:
    target = dns.name.from_text(place.host) if place.outside else _name(f"{place.host}.{_NODE}")
    return _SRV(_IN, _T.SRV, place.priority, place.weight, place.port, target)


def _txt(services: Sequence[Service]) -> Iterator[dns.rdata.Rdata]:
    for service in services:
        facts = ["v=osiris1", f"name={service.name}", f"version={service.version}"]
        yield _text([*facts, f"digest={service.digest}"] if service.digest else facts)


def _places_addresses(services: Sequence[Service], directory: Directory) -> Iterator[dns.rdata.Rdata]:
    hosts = dict.fromkeys(place.host for service in services for place in service.places if not place.outside)
    nodes = [directory.nodes[host] for host in hosts if host in directory.nodes][:MAX_PLACES]
    yield from _addresses(tuple(dict.fromkeys(address for node in nodes for address in node.addresses)))


def _addresses(texts: Sequence[str]) -> Iterator[dns.rdata.Rdata]:
    for text in texts:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.version == 4:
            yield _A(_IN, _T.A, str(address))
        else:
            yield _AAAA(_IN, _T.AAAA, str(address))


def _add_targets(reply: dns.message.Message, records: Sequence[dns.rdata.Rdata], directory: Directory) -> None:
    """Add the addresses of the hosts an answer names, which saves whoever asked the next question (RFC 2782)."""
    for record in records:
        if not isinstance(record, dns.rdtypes.IN.SRV.SRV):
            continue
        target = record.target
        node = _node_of(target, directory)
        if node is None:
            continue
        by_kind: dict[dns.rdatatype.RdataType, list[dns.rdata.Rdata]] = {}
        for address in _addresses(node.addresses):
            by_kind.setdefault(address.rdtype, []).append(address)
        for rows in by_kind.values():
            each = _rrset(target, rows)
            if each not in reply.additional:
                reply.additional.append(each)


def _node_of(target: dns.name.Name, directory: Directory) -> DnsNode | None:
    if not target.is_subdomain(ORIGIN):
        return None
    return directory.nodes.get(target.labels[0].decode("ascii", "replace"))


def _soa(directory: Directory) -> dns.rdata.Rdata:
    return _SOA(_IN, _T.SOA, _name("ns"), _name("hostmaster"), directory.serial, 3600, 600, 86_400, TTL)


def _pointer(name: dns.name.Name) -> dns.rdata.Rdata:
    return _PTR(_IN, _T.PTR, name)


def _text(strings: Sequence[str]) -> dns.rdata.Rdata:
    return _TXT(_IN, _T.TXT, [each.encode()[:255] for each in strings])


def _name(text: str) -> dns.name.Name:
    return dns.name.Name([*(label.encode() for label in text.split(".")), *ORIGIN.labels])


def _instance(name: str) -> dns.name.Name | None:
    """Return the DNS-SD instance of a function, or None for one too long for a label."""
    label = service_text(name).encode()
    return dns.name.Name([label, *_name(_SD).labels]) if len(label) <= MAX_LABEL else None


def _rrset(name: dns.name.Name, records: Sequence[dns.rdata.Rdata]) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, TTL, list(records))


def _reply(message: dns.message.Message) -> dns.message.Message:
    reply = dns.message.make_response(message, our_payload=MAX_UDP)
    reply.flags |= dns.flags.AA
    return reply


def _refuse(message: dns.message.Message, code: dns.rcode.Rcode) -> bytes:
    try:
        reply = dns.message.make_response(message, our_payload=MAX_UDP)
    except dns.exception.DNSException:
        return _malformed(message.to_wire())
    reply.set_rcode(code)
    return wire(reply, _OLD_UDP)


def _malformed(data: bytes) -> bytes:
    """Return a FORMERR with the id, opcode and RD of bytes that are no message."""
    return data[:2] + bytes([0x80 | (data[2] & 0x79), dns.rcode.FORMERR]) + bytes(8)
