"""Finding nodes near here by mDNS: hints about where to look, never a reason to trust.

Service ``_osiris-mesh._tcp.local.`` with a TXT record of three keys: ``v`` the version (1), ``m`` the mesh's mark (32
hex digits of a hash of its id, so that the id itself is not told to everybody), ``p`` the peer id. Sources: RFC 6762
and RFC 6763.

What is read comes from anybody on the network: it is bounded, checked for form, and only ever makes a node dial, where
the handshake decides. Where multicast is impossible nothing here raises or waits: :attr:`Discovery.problem` says why.

zeroconf is imported when first used, in a thread: it takes 5 MB and a tenth of a second, which a node started with
``--no-mdns`` never pays and another not at its start.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import ipaddress
import logging
import secrets
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import ifaddr

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import public_key

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

__all__ = ["SERVICE", "Browsed", "Discovery", "Hint", "browse", "check_multicast", "mesh_mark", "read_hint"]

SERVICE: Final = "_osiris-mesh._tcp.local."
_VERSION: Final = 1
_GROUP: Final = "224.0.0.251"
_MAX_TXT: Final = 512
_MAX_ADDRESSES: Final = 8
_MAX_HINTS: Final = 64
_MAX_PENDING: Final = 32
_REQUEST_MS: Final = 3000
_RETRY_SECONDS: Final = 30.0
_NO_MULTICAST: Final = "no multicast"
_log = logging.getLogger("osiris.discovery")


def mesh_mark(mesh_id: bytes) -> str:
    """Return the mark under which a mesh is announced: 32 hex digits."""
    return hashlib.sha256(b"osiris/mesh/v1\0" + mesh_id).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody says that a node answers there.

    Attributes:
        mark: Of which mesh, see :func:`mesh_mark`.
        peer: Which node.
        addresses: Where, each with the peer id; at most eight.
    """

    mark: str
    peer: str
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class Browsed:
    """What a look around found.

    Attributes:
        hints: One a node.
        problem: Why nothing could be found; empty if looking was possible.
    """

    hints: tuple[Hint, ...]
    problem: str = ""


def read_hint(txt: Mapping[bytes, bytes | None], hosts: Sequence[str], port: int | None) -> Hint | None:
    """Return what an announcement says, or None if it is not one of ours or breaks a bound.

    Args:
        txt: Keys and values of its TXT record.
        hosts: Addresses of its host.
        port: Port of its SRV record.
    """
    size = sum(len(key) + len(value or b"") for key, value in txt.items())
    if size > _MAX_TXT or txt.get(b"v") != b"%d" % _VERSION or not port or not 0 < port < 65_536:
        return None
    try:
        mark = (txt.get(b"m") or b"").decode("ascii")
        peer = (txt.get(b"p") or b"").decode("ascii")
        public_key(peer)
    except (UnicodeDecodeError, UsageError):
        return None
    if len(mark) != 32 or not set(mark) <= set("0123456789abcdef"):
        return None
    addresses = tuple(Multiaddr(host, port, peer) for host in hosts[: 4 * _MAX_ADDRESSES] if _dialable(host))
    return Hint(mark, peer, addresses[:_MAX_ADDRESSES]) if addresses else None


def _dialable(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # An IPv6 link-local address means nothing without an interface, which a multiaddr does not name.
    return not (address.is_multicast or address.is_unspecified or (address.version == 6 and address.is_link_local))


class Discovery:
    """Announces one node and looks for others.

    Args:
        mesh_id: The mesh's id; announcements of other meshes are left out.
        peer: Our own peer id.
        on_hint: Called with every new hint of our mesh; must not block or raise.

    Attributes:
        problem: Why it does not work now, for people; empty if it does.
    """

    def __init__(self, mesh_id: bytes, peer: str, *, on_hint: Callable[[Hint], None]) -> None:
        self.problem = "not started"
        self._mark = mesh_mark(mesh_id)
        self._peer = peer
        self._on_hint = on_hint

    async def run(self, addresses: Sequence[Multiaddr]) -> None:
        """Announce and look around until cancelled; where that is impossible, try again every half a minute.

        Args:
            addresses: Where this node's links are accepted. Host names are not announced. If all are loopback addresses
                nothing leaves this machine.
        """
        interfaces = _interfaces(addresses)
        while True:
            try:
                async with (
                    _opened(interfaces) as zeroconf,
                    _announced(zeroconf, self._mark, self._peer, addresses),
                    _browsing(zeroconf, self._take),
                ):
                    self.problem = ""
                    await _until_interfaces_change()
            except OSError as error:
                self.problem = f"{_NO_MULTICAST}: {error.strerror or error}"
                _log.info("discovery by mDNS is impossible now", extra={"why": self.problem})
                await asyncio.sleep(_RETRY_SECONDS)

    def _take(self, hint: Hint) -> None:
        if hint.mark == self._mark and hint.peer != self._peer:
            self._on_hint(hint)


async def browse(timeout: float, *, interfaces: Sequence[str] | None = None) -> Browsed:
    """Look around for ``timeout`` seconds and return all nodes of all meshes that announce themselves.

    Args:
        timeout: Seconds; the whole time is spent, as nobody can know who has yet to answer.
        interfaces: Addresses of the interfaces to look on; None for all.
    """
    found: dict[str, Hint] = {}

    def take(hint: Hint) -> None:
        if len(found) < _MAX_HINTS:
            found[hint.peer] = hint

    try:
        async with _opened(interfaces) as zeroconf, _browsing(zeroconf, take):
            await asyncio.sleep(timeout)
    except OSError as error:
        return Browsed((), f"{_NO_MULTICAST}: {error.strerror or error}")
    hints = tuple(sorted(found.values(), key=lambda hint: (hint.mark, hint.peer)))
    return Browsed(hints, "" if hints else await check_multicast(interface=interfaces[0] if interfaces else ""))


async def check_multicast(timeout: float = 0.5, *, interface: str = "") -> str:
    """Return why multicast can't work on this machine, for ``doctor``; empty if a packet to the group came back to us.

    It can't see what a switch or an access point between machines drops.
    """
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)  # noqa: FBT003 - the standard library names it so
            probe.bind(("", 0))
            local = socket.inet_aton(interface) if interface else bytes(4)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(_GROUP) + local)
            if interface:
                probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, local)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
            word = secrets.token_bytes(16)
            await loop.sock_sendto(probe, word, (_GROUP, probe.getsockname()[1]))
            async with asyncio.timeout(timeout):
                while await loop.sock_recv(probe, 64) != word:
                    pass
    except TimeoutError:
        return f"{_NO_MULTICAST}: a packet to {_GROUP} did not come back"
    except OSError as error:
        return f"{_NO_MULTICAST}: {error.strerror or error}"
    return ""


def _interfaces(addresses: Iterable[Multiaddr]) -> list[str] | None:
    hosts = [address.host for address in addresses]
    return ["127.0.0.1"] if hosts and all(_is_loopback(host) for host in hosts) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _adapters() -> frozenset[str]:
    return frozenset(str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips)


async def _until_interfaces_change() -> None:
    before = _adapters()
    # The operating systems tell of such changes each in its own way; looking twice a minute works on all of them.
    while _adapters() == before:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(_RETRY_SECONDS)


@asynccontextmanager
async def _opened(interfaces: Sequence[str] | None) -> AsyncIterator[AsyncZeroconf]:
    """Open the multicast sockets; OSError if there can be none."""
    zeroconf = await asyncio.to_thread(importlib.import_module, "zeroconf")
    shell = await asyncio.to_thread(importlib.import_module, "zeroconf.asyncio")
    choice: Any = zeroconf.InterfaceChoice.All if interfaces is None else list(interfaces)
    try:
        opened: AsyncZeroconf = shell.AsyncZeroconf(interfaces=choice, ip_version=_ip_version(zeroconf, interfaces))
        try:
            yield opened
        finally:
            await opened.async_close()
    except (zeroconf.Error, RuntimeError) as error:
        # Without any interface it raises RuntimeError, and while the network goes away errors of its own.
        raise OSError(str(error)) from error


def _ip_version(zeroconf: Any, interfaces: Sequence[str] | None) -> Any:
    return zeroconf.IPVersion.All if interfaces is None and socket.has_ipv6 else zeroconf.IPVersion.V4Only


@asynccontextmanager
async def _announced(
    zeroconf: AsyncZeroconf, mark: str, peer: str, addresses: Sequence[Multiaddr]
) -> AsyncIterator[None]:
    hosts: OrderedDict[int, list[str]] = OrderedDict()
    for address in addresses:
        if address.port and _dialable(address.host):
            hosts.setdefault(address.port, []).append(address.host)
    if not hosts:
        yield
        return
    port, here = next(iter(hosts.items()))
    module: Any = importlib.import_module("zeroconf.asyncio")
    info: AsyncServiceInfo = module.AsyncServiceInfo(
        SERVICE,
        f"{peer}.{SERVICE}",
        port=port,
        properties={"v": str(_VERSION), "m": mark, "p": peer},
        server=f"{peer}.local.",
        parsed_addresses=here[:_MAX_ADDRESSES],
    )
    # A peer id is nobody else's: there is no name to fight for, and no need to wait for a fight.
    await zeroconf.async_register_service(info, cooperating_responders=True)
    try:
        yield
    finally:
        await (await zeroconf.async_unregister_service(info))


@asynccontextmanager
async def _browsing(zeroconf: AsyncZeroconf, take: Callable[[Hint], None]) -> AsyncIterator[None]:
    """Call ``take`` with every announcement that can be read; the same one twice in a row is told once."""
    module: Any = importlib.import_module("zeroconf.asyncio")
    pending: set[asyncio.Task[None]] = set()
    told: OrderedDict[str, Hint] = OrderedDict()

    async def ask(name: str) -> None:
        info: AsyncServiceInfo = module.AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf.zeroconf, _REQUEST_MS):
            return
        hint = read_hint(info.properties, info.parsed_scoped_addresses(), info.port)
        if hint is None or told.get(hint.peer) == hint:
            return
        told[hint.peer] = hint
        while len(told) > _MAX_HINTS:
            told.popitem(last=False)
        take(hint)

    def changed(*, name: str, state_change: Any, **_: Any) -> None:
        if state_change.name == "Removed" or len(pending) >= _MAX_PENDING or len(name) > 255:
            return
        task = asyncio.get_running_loop().create_task(ask(name), name="mdns request")
        pending.add(task)
        task.add_done_callback(pending.discard)

    browser = module.AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
    try:
        yield
    finally:
        for task in list(pending):
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await browser.async_cancel()
