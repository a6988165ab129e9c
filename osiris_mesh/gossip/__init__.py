"""Who is alive, how loaded they are, and signed messages to all; see DESIGN.md."""

from __future__ import annotations

from osiris_mesh.gossip.load import FunctionLoad, Load, LoadTable
from osiris_mesh.gossip.message import PeerState
from osiris_mesh.gossip.service import Gossip

__all__ = ["FunctionLoad", "Gossip", "Load", "LoadTable", "PeerState"]
