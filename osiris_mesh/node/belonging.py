"""Which mesh a node belongs to, from its home's files: founding it, joining it, leaving it behind."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from osiris_mesh.access.admission import present, with_seeds
from osiris_mesh.clock import Clock
from osiris_mesh.errors import Conflict, Denied, Unavailable
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ConfigSet, Genesis
from osiris_mesh.ledger.ledger import Ledger
from osiris_mesh.ledger.values import HIGHEST_LEVEL, LEVEL_KEY
from osiris_mesh.link import Links
from osiris_mesh.node.options import MeshFile, NodeOptions, write_private
from osiris_mesh.node.prepare import forget_token, pending_token

__all__ = ["Belonging"]

_GENESIS_SECONDS: Final = 10.0
_CATCH_UP_SECONDS: Final = 30.0


class Belonging:
    """A home's mesh.

    Args:
        home: The home, held by this process.
        me: Peer id of the node.

    Attributes:
        mesh: What the home says; of a home that is still to join, what its token says.
        network_key: The mesh's 32-byte secret.

    Raises:
        Conflict: The home belongs to no mesh, or its files are damaged.
    """

    def __init__(self, home: Home, me: str) -> None:
        self._home = home
        self._me = me
        mesh = MeshFile.load(home)
        self._token = pending_token(home) if mesh is None else None
        if self._token is not None:
            self.mesh = MeshFile(self._token.mesh_id, "", founder=False, members=tuple(map(str, self._token.members)))
            self.network_key = self._token.network_key
        elif mesh is not None:
            self.mesh = mesh
            self.network_key = bytes.fromhex(home.network_key.read_text("ascii").strip())
        else:
            raise Conflict(
                f"{home.path} belongs to no mesh",
                fix="make one with: osiris-mesh init, or join one with: osiris-mesh join TOKEN",
            )

    def provisional(self, height: int) -> frozenset[str]:
        """Return the peers trusted as members until the own ledger, at ``height``, holds the block that admitted us."""
        if height and height >= self.mesh.joined_height:
            return frozenset()
        return frozenset(Multiaddr.parse(member).peer for member in self.mesh.members)

    def introduce(self, links: Links, seeds: Sequence[str]) -> None:
        """Tell ``links`` where members were last known to answer."""
        for member in (*self.mesh.members, *seeds):
            address = Multiaddr.parse(member)
            if address.peer and address.peer != self._me:
                links.learn(address.peer, [address])

    async def join(self, links: Links, key: KeyPair, options: NodeOptions, listen: Sequence[Multiaddr]) -> None:
        """Present the kept token, if there is one, and save what the admitting member answers.

        Raises:
            Denied: The mesh refuses; the token is forgotten.
            Unavailable: No member could be reached.
        """
        token = self._token
        if token is None:
            return
        try:
            user = KeyPair.load(self._home.user_key).public
            seeds = [Multiaddr.parse(seed) for seed in options.seeds]
            admitted = await present(links, with_seeds(token, seeds), key, user, options.name, listen)
        except Denied:
            forget_token(self._home)
            raise
        write_private(self._home.network_key, token.network_key.hex() + "\n")
        self.mesh = MeshFile(
            token.mesh_id,
            admitted.name,
            founder=False,
            joined_height=admitted.height,
            members=tuple(str(member) for member in admitted.members if member.peer != self._me),
        )
        self.mesh.save(self._home)
        forget_token(self._home)
        self._token = None
        self.introduce(links, ())

    async def settle(
        self, ledger: Ledger, key: KeyPair, clock: Clock, options: NodeOptions, listen: Sequence[Multiaddr]
    ) -> None:
        """Write the genesis of a mesh this node founds; wait for the block that admitted this node.

        Raises:
            Unavailable: The genesis could not be written.
            DeadlineExceeded: The block that admitted this node did not arrive.
        """
        if self.mesh.founder:
            if ledger.tip.height == 0:
                await self._found(ledger, key, clock, options, listen)
            # Should this node ever lose its log it must not elect itself again: it founds once.
            self.mesh = replace(self.mesh, founder=False)
            self.mesh.save(self._home)
        if self.mesh.joined_height > ledger.tip.height:
            await ledger.wait_for(self.mesh.joined_height, _CATCH_UP_SECONDS)

    async def _found(
        self, ledger: Ledger, key: KeyPair, clock: Clock, options: NodeOptions, listen: Sequence[Multiaddr]
    ) -> None:
        user = KeyPair.load(self._home.user_key)
        founders = [[key.public, options.name, [str(address) for address in listen]]]
        body = Genesis(self.mesh.name, founders, user.public, "admin")
        entry = Entry.make(body.KIND, body.body(), key, self.mesh.mesh_id, clock)
        # In the same block, so that no entry of this mesh is ever judged by less than today's rules.
        rules = ConfigSet(LEVEL_KEY, str(HIGHEST_LEVEL))
        raised = Entry.make(rules.KIND, rules.body(), user, self.mesh.mesh_id, clock)
        receipt = await ledger.propose([entry.bytes, raised.bytes], timeout=_GENESIS_SECONDS)
        outcome = receipt.outcomes[0]
        if not outcome.accepted and ledger.tip.height == 0:
            raise Unavailable(f"the genesis was refused: {outcome.reason}", maybe=False)

    def forget(self) -> None:
        """Remove what ties the home to the mesh it left; its user's key, the library and the environments stay."""
        for path in (self._home.mesh_file, self._home.network_key, self._home.node_key):
            path.unlink(missing_ok=True)
        for folder in (self._home.ledger, self._home.raft):
            shutil.rmtree(folder)
