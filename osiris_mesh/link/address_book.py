"""Where peers were last known to accept links, and how soon to try again: a pure core."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from osiris_mesh.identity.multiaddr import Multiaddr

__all__ = ["AddressBook"]

_PER_PEER: Final = 16
_PEERS: Final = 4096


@dataclass(slots=True)
class _Entry:
    addresses: list[Multiaddr] = field(default_factory=list)
    failures: int = 0
    not_before: float = 0.0
    why: str = ""


class AddressBook:
    """Addresses and failures by peer; bounded: the peer longest not heard of is forgotten first.

    Args:
        backoff_s: Seconds to wait after the first failure; doubles with each.
        backoff_max_s: The longest wait.
    """

    def __init__(self, backoff_s: float, backoff_max_s: float) -> None:
        self._backoff_s = backoff_s
        self._backoff_max_s = backoff_max_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def learn(self, peer: str, addresses: Iterable[Multiaddr]) -> None:
        """Note addresses of ``peer``; new ones go in front, since nodes move. Those of other peers are passed over."""
        entry = self._entries.setdefault(peer, _Entry())
        self._entries.move_to_end(peer)
        fresh = [Multiaddr(address.host, address.port, peer) for address in addresses if address.peer in {"", peer}]
        new = [address for address in dict.fromkeys(fresh) if address not in entry.addresses]
        if new:
            entry.addresses = (new + entry.addresses)[:_PER_PEER]
            # An address never tried may work at once, whatever the old ones did.
            entry.not_before = 0.0
        while len(self._entries) > _PEERS:
            self._entries.popitem(last=False)

    def addresses(self, peer: str) -> list[Multiaddr]:
        """Return what is known of ``peer``, best first."""
        entry = self._entries.get(peer)
        return list(entry.addresses) if entry else []

    def peer_at(self, host: str, port: int) -> str:
        """Return the one peer known at ``host`` and ``port``; empty if there is none, or more than one."""
        found = {
            peer
            for peer, entry in self._entries.items()
            if any(address.host == host and address.port == port for address in entry.addresses)
        }
        return found.pop() if len(found) == 1 else ""

    def succeeded(self, peer: str, address: Multiaddr | None) -> None:
        """Note that a link to ``peer`` is up, by ``address`` if we dialled."""
        entry = self._entries.setdefault(peer, _Entry())
        entry.failures, entry.not_before, entry.why = 0, 0.0, ""
        if address is not None:
            where = Multiaddr(address.host, address.port, peer)
            entry.addresses = [where, *(other for other in entry.addresses if other != where)][:_PER_PEER]

    def failed(self, peer: str, now: float, why: str) -> None:
        """Note that all addresses of ``peer`` were tried in vain at ``now`` (monotonic seconds)."""
        entry = self._entries.setdefault(peer, _Entry())
        wait = min(self._backoff_s * 2 ** min(entry.failures, 16), self._backoff_max_s)
        entry.failures += 1
        entry.not_before = now + wait
        entry.why = why

    def waiting(self, peer: str, now: float) -> tuple[float, str]:
        """Return how many seconds to wait before ``peer`` may be tried again (0: none), and the last failure."""
        entry = self._entries.get(peer)
        if entry is None or now >= entry.not_before:
            return 0.0, ""
        return entry.not_before - now, entry.why
