"""An in-memory network with faults, decided by a seed; and a loop whose time is simulated.

Every node sees the network through a view of its own, :meth:`MemoryNetwork.at`, so that partitions know who is who::

    async with mesh(3) as nodes:
        await nodes[0].links.to(nodes[1].links.peer)

Real handshakes, boxes and streams run over it; only the sockets are gone. With :func:`simulate` also the waiting is:
an hour of keep-alives takes milliseconds and is the same every time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import selectors
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Conflict
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.link.hello import Hello
from osiris_mesh.link.links import Links
from osiris_mesh.link.network import Listener, Network
from osiris_mesh.link.request import Audience
from osiris_mesh.link.router import Router
from osiris_mesh.settings.link import LinkSettings

__all__ = ["LoopClock", "MemoryNetwork", "MeshNode", "mesh", "simulate"]

_T = TypeVar("_T")
_FIRST_PORT: Final = 10_000


class _Transport(asyncio.Transport):
    """One end of a connection: what is written here is delivered to the other end's protocol."""

    def __init__(self, network: MemoryNetwork, protocol: asyncio.Protocol, own: str, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer})
        self.network = network
        self.protocol = protocol
        self.hosts = (own, peer[0])
        self.other: _Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._wire: deque[tuple[float, bytes | None]] = deque()
        self._on_wire = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._lost = False
        self._paused = False
        self._high = 65_536

    def begin(self) -> None:
        """Tell the protocol."""
        self.protocol.connection_made(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set above how many bytes on the wire the protocol is asked to pause."""
        del low
        self._high = 65_536 if high is None else high

    def get_write_buffer_size(self) -> int:
        """Return the bytes on the wire."""
        return self._on_wire

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        if self._closing or not data:
            return
        self._put(bytes(data))
        if self._on_wire > self._high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces."""
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing

    def close(self) -> None:
        """Send what is on the wire, then the end."""
        if not self._closing:
            self._closing = True
            self._put(None)
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """End at once, for both ends."""
        self._closing = True
        self._loop.call_soon(self._lose, None)
        if self.other is not None:
            self._loop.call_soon(self.other.broken)

    def broken(self) -> None:
        """The connection broke."""
        self._closing = True
        self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            if error is not None or self._timer is None:
                self._wire.clear()
            self.network.forget(self)
            self.protocol.connection_lost(error)

    def _put(self, data: bytes | None) -> None:
        at = self._loop.time() + self.network.latency()
        if self._wire:
            at = max(at, self._wire[-1][0])
        self._wire.append((at, data))
        self._on_wire += len(data) if data else 0
        self.pump()

    def pump(self) -> None:
        """Deliver what is due, unless a partition holds it."""
        if self._timer is None and self._wire and not self.network.parted(*self.hosts):
            self._timer = self._loop.call_later(max(0.0, self._wire[0][0] - self._loop.time()), self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        # Loops fire timers early by up to their clock's resolution.
        now = self._loop.time() + 1e-6
        while self._wire and self._wire[0][0] <= now and not self.network.parted(*self.hosts):
            _, data = self._wire.popleft()
            other = self.other
            if other is None or other._lost:  # noqa: SLF001 - the other end of itself
                self._wire.clear()
                return
            if data is None:
                if not other.protocol.eof_received():
                    other.close()
                return
            self._on_wire -= len(data)
            if self.network.breaks():
                other.broken()
                self.broken()
                return
            other.protocol.data_received(data)
        if self._paused and not self._lost and self._on_wire <= self._high // 4:
            self._paused = False
            self.protocol.resume_writing()
        self.pump()


class _Listener:
    def __init__(self, network: MemoryNetwork, host: str, port: int) -> None:
        self._network = network
        self._at = (host, port)

    @property
    def bound(self) -> Sequence[tuple[str, int]]:
        return [self._at]

    def close(self) -> None:
        self._network.unlisten(self._at)


class _View:
    """The network as one host sees it."""

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self._network = network
        self._host = host

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        return await self._network.listen(host, port, factory)

    async def connect(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        await self._network.connect(host, port, factory, source=self._host)


class MemoryNetwork:
    """Connections inside one loop. Deterministic for a seed as far as the programs on it are.

    Args:
        seed: Of all chance.
        delay_s: Shortest and longest time a chunk of bytes is on its way, seconds; order is kept.
        break_rate: Probability for each chunk that its connection breaks instead.
        refuse_rate: Probability for each dial that it fails.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        delay_s: tuple[float, float] = (0.0, 0.0),
        break_rate: float = 0.0,
        refuse_rate: float = 0.0,
    ) -> None:
        self.delay_s = delay_s
        self.break_rate = break_rate
        self.refuse_rate = refuse_rate
        self._random = random.Random(seed)  # noqa: S311 - chance of a simulation, to be repeated
        self._listeners: dict[tuple[str, int], Callable[[], asyncio.Protocol]] = {}
        self._transports: set[_Transport] = set()
        self._parted: set[frozenset[str]] = set()
        self._next_port = _FIRST_PORT

    def at(self, host: str) -> Network:
        """Return the network as ``host`` sees it; the name is any that a multiaddr takes."""
        return _View(self, host)

    # faults

    def part(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Let nothing pass between the hosts of the two sides; what is sent waits, dials fail."""
        others = list(other)
        for here in one:
            for there in others:
                self._parted.add(frozenset((here, there)))

    def heal(self) -> None:
        """End all partitions; what waited is delivered."""
        self._parted.clear()
        for transport in list(self._transports):
            transport.pump()

    def cut(self, one: str, other: str) -> int:
        """Break every connection between two hosts now; return how many."""
        broken = [transport for transport in self._transports if set(transport.hosts) == {one, other}]
        for transport in broken:
            transport.broken()
        return len(broken) // 2

    # the Network protocol

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Accept connections at ``host``."""
        if not port:
            self._next_port += 1
            port = self._next_port
        if (host, port) in self._listeners:
            raise Conflict(f"{host}:{port} is taken by another program")
        self._listeners[host, port] = factory
        return _Listener(self, host, port)

    async def connect(
        self, host: str, port: int, factory: Callable[[], asyncio.Protocol], *, source: str = "elsewhere"
    ) -> None:
        """Connect to ``host``."""
        await asyncio.sleep(self.latency())
        if self.parted(source, host):
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        accept = self._listeners.get((host, port))
        if accept is None or self._random.random() < self.refuse_rate:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        self._next_port += 1
        near = _Transport(self, factory(), source, (host, port))
        far = _Transport(self, accept(), host, (source, self._next_port))
        near.other, far.other = far, near
        self._transports |= {near, far}
        far.begin()
        near.begin()

    # for transports

    def latency(self) -> float:
        """Return how long the next chunk is on its way, seconds."""
        low, high = self.delay_s
        return self._random.uniform(low, high) if high else 0.0

    def breaks(self) -> bool:
        """Whether the connection breaks now."""
        return self.break_rate > 0 and self._random.random() < self.break_rate

    def parted(self, one: str, other: str) -> bool:
        """Whether nothing passes between two hosts."""
        return bool(self._parted) and frozenset((one, other)) in self._parted

    def forget(self, transport: _Transport) -> None:
        """A connection is gone."""
        self._transports.discard(transport)

    def unlisten(self, at: tuple[str, int]) -> None:
        """Nobody accepts there any more."""
        self._listeners.pop(at, None)


@dataclass(slots=True)
class MeshNode:
    """One node of :func:`mesh`.

    Attributes:
        host: Its name in the network: ``n0``, ``n1``, …
        key: Its key.
        router: What it serves; methods may be added at any time.
        links: Its links.
        address: Where it accepts links.
        network: The network of all.
        admitted: Audience of each public key, shared by all; change it, then ``recheck``.
    """

    host: str
    key: KeyPair
    router: Router
    links: Links
    address: Multiaddr
    network: MemoryNetwork
    admitted: dict[bytes, Audience]


@asynccontextmanager
async def mesh(
    count: int,
    *,
    seed: int = 0,
    network: MemoryNetwork | None = None,
    settings: LinkSettings | None = None,
    clock: Clock = SYSTEM,
    connected: bool = True,
) -> AsyncIterator[list[MeshNode]]:
    """Make ``count`` members with links between all of them; closed at the end. The same seed gives the same keys.

    Args:
        count: How many.
        seed: Of the keys, and of the network if none is given.
        network: Where; a fresh one if None.
        settings: Preset ``test`` if None.
        clock: For all of them.
        connected: Dial at once; otherwise they only know each other's addresses.
    """
    chance = random.Random(seed)  # noqa: S311 - keys of a test, to be repeated
    network = network or MemoryNetwork(seed)
    settings = settings or LinkSettings.preset("test")
    mesh_id, network_key = chance.randbytes(16), chance.randbytes(32)
    admitted: dict[bytes, Audience] = {}
    nodes: list[MeshNode] = []
    try:
        for number in range(count):
            key, router, host = KeyPair(chance.randbytes(32)), Router(), f"n{number}"
            admitted[key.public] = Audience.MEMBER
            links = Links(
                key,
                network_key,
                Hello(mesh_id, name=host),
                router,
                admit=admitted.get,
                network=network.at(host),
                settings=settings,
                clock=clock,
            )
            (address,) = await links.listen(host, 7411)
            nodes.append(MeshNode(host, key, router, links, address, network, admitted))
        for node in nodes:
            for other in nodes:
                node.links.learn(other.links.peer, [other.address])
        if connected:
            await _connect(nodes)
        yield nodes
    finally:
        for node in nodes:
            await node.links.close()


async def _connect(nodes: list[MeshNode]) -> None:
    """Dial between all nodes, and wait until the accepting ends have their links too."""
    up = asyncio.Event()
    for node in nodes:
        node.links.on_up(lambda _link: up.set())
    pairs = [(node, other) for place, node in enumerate(nodes) for other in nodes[place + 1 :]]
    await asyncio.gather(*(node.links.to(other.links.peer) for node, other in pairs))
    while any(other.links.get(node.links.peer) is None for node, other in pairs):
        up.clear()
        await up.wait()


class LoopClock:
    """The time of the running loop, simulated or not."""

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def time_ms(self) -> int:
        """Return it as a wall clock that began in 2023."""
        return 1_700_000_000_000 + int(self.monotonic() * 1000)


class _LeapingSelector(selectors.DefaultSelector):
    """Where a loop would wait, time leaps to the next timer instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits and no timer is set: this would hang for ever")
        if not ready and timeout:
            self.now += timeout
        return ready


class _LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


def simulate(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run ``main()`` in a loop whose time leaps from timer to timer: no threads or sockets; see :class:`LoopClock`."""
    with asyncio.Runner(loop_factory=_LeapingLoop) as runner:
        return runner.run(main())
