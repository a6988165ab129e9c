"""HELLO: the first boxed message each way, and which of two links to one peer stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from osiris_mesh import __version__
from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import Conflict, RemoteProtocolError, UsageError
from osiris_mesh.identity.multiaddr import Multiaddr

__all__ = ["BIG_BODIES", "MAX_HELLO", "PROTOCOL", "ROLES", "Facts", "Hello", "keep"]

PROTOCOL: Final = 1
"""Version of the frames and methods this software speaks."""
BIG_BODIES: Final = "big-bodies"
"""Feature: box stream bodies up to 65,535 bytes."""
ROLES: Final = ("voter", "follower", "client", "joiner")
MAX_HELLO: Final = 8192

_LIMITS: Final = Limits(size=MAX_HELLO, depth=3, count=64)
_TEXT: Final = 64


@dataclass(frozen=True, slots=True)
class Hello:
    """What each end says of itself.

    Attributes:
        mesh_id: 16 bytes.
        role: One of :data:`ROLES`; a hint, authority is in the ledger.
        name: The node's name for people.
        addresses: Where it accepts links.
        lowest: Oldest protocol it speaks.
        highest: Newest protocol it speaks.
        software: Version of the program.
        features: What it can do beyond the protocol.
        serial: Grows with every HELLO this end makes, restarts included; tells which of two links is newer.
    """

    mesh_id: bytes
    role: str = "voter"
    name: str = ""
    addresses: tuple[Multiaddr, ...] = ()
    lowest: int = PROTOCOL
    highest: int = PROTOCOL
    software: str = __version__
    features: tuple[str, ...] = (BIG_BODIES,)
    serial: int = 0

    def numbered(self, serial: int) -> Hello:
        """Return the same with ``serial``."""
        return replace(self, serial=serial)

    def to_wire(self) -> bytes:
        """Return ``[lowest, highest, software, mesh id, role, name, [address…], [feature…], serial]``, packed."""
        return pack(
            [
                self.lowest,
                self.highest,
                self.software,
                self.mesh_id,
                self.role,
                self.name,
                [str(address) for address in self.addresses[:32]],
                list(self.features),
                self.serial,
            ]
        )

    @classmethod
    def from_wire(cls, data: bytes) -> Hello:
        """Read and check what :meth:`to_wire` wrote; items behind the known ones are left to later versions.

        Raises:
            RemoteProtocolError: Not a HELLO.
        """
        value = unpack_canonical(data, _LIMITS)
        if type(value) is not list or len(value) < 9:
            raise RemoteProtocolError("a HELLO has too few items")
        lowest, highest, software, mesh_id, role, name, addresses, features, serial = value[:9]
        good = (
            type(lowest) is type(highest) is type(serial) is int
            and 0 < lowest <= highest
            and serial >= 0
            and all(type(text) is str and len(text) <= _TEXT for text in (software, role, name))
            and type(mesh_id) is bytes
            and len(mesh_id) == 16
            and role in ROLES
            and type(addresses) is list
            and type(features) is list
            and all(type(text) is str and len(text) <= _TEXT for text in features)
            and all(type(text) is str for text in addresses)
        )
        if not good:
            raise RemoteProtocolError("a HELLO has an item of the wrong kind")
        try:
            where = tuple(Multiaddr.parse(text) for text in addresses)
        except UsageError:
            raise RemoteProtocolError("a HELLO names something that is not an address") from None
        return cls(
            mesh_id=mesh_id,
            role=role,
            name=name,
            addresses=where,
            lowest=lowest,
            highest=highest,
            software=software,
            features=tuple(features),
            serial=serial,
        )

    def check(self, peer: Hello) -> None:
        """Check that a link with ``peer`` makes sense.

        Raises:
            Conflict: It is of another mesh, or there is no protocol both speak.
        """
        if peer.mesh_id != self.mesh_id:
            raise Conflict(
                f"the peer belongs to another mesh ({peer.mesh_id.hex()[:8]}…, ours is {self.mesh_id.hex()[:8]}…)",
                fix="two meshes can't be merged; use a token of the mesh you want",
            )
        if peer.highest < self.lowest or peer.lowest > self.highest:
            raise Conflict(
                f"the peer's version {peer.software} speaks protocols {peer.lowest} to {peer.highest}, "
                f"ours, {self.software}, {self.lowest} to {self.highest}",
                fix="bring both to the same release",
            )


@dataclass(frozen=True, slots=True)
class Facts:
    """What both ends of a link know of it alike.

    Attributes:
        dialled: This end dialled.
        own_serial: Serial of the HELLO this end sent on it.
        peer_serial: Serial of the HELLO the peer sent on it.
    """

    dialled: bool
    own_serial: int
    peer_serial: int


def keep(old: Facts, new: Facts, *, lower: bool) -> tuple[bool, bool]:
    """Decide between two links to one peer; both ends come to the same result.

    A dialler takes its HELLO's serial when it begins to dial, an accepting end when it accepts. So if each end began to
    dial before it had accepted the other's link, the dials crossed, and the link dialled by the lower public key stays.
    Otherwise one end dialled though it had a link already, which it does only when that one is dead to it: the newer
    stays.

    Args:
        old: The link that is live.
        new: The one that just came up.
        lower: Whether our public key is lower than the peer's.

    Returns:
        Whether the new one stays, and whether the dials crossed (the other one is not dead, and may finish its work).
    """
    if old.dialled == new.dialled:
        # By one dialler, in the order it dialled.
        newer = new.own_serial > old.own_serial if new.dialled else new.peer_serial > old.peer_serial
        return newer, False
    ours, theirs = (old, new) if old.dialled else (new, old)
    crossed = ours.own_serial < theirs.own_serial and theirs.peer_serial < ours.peer_serial
    if crossed:
        return new.dialled == lower, True
    their_dial_is_newer = theirs.peer_serial > ours.peer_serial
    return their_dial_is_newer == (new is theirs), False
