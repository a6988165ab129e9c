"""Agree: PySyncObj, hardened, over links.

Import :class:`Raft` and :class:`VoterPlan` from here; ``DESIGN.md`` tells the rest.
"""

from __future__ import annotations

from osiris_mesh.raft.raft import Raft
from osiris_mesh.raft.status import Committed, RaftStatus
from osiris_mesh.raft.voter_plan import AddVoter, HandOver, RemoveVoter, VoterPlan

__all__ = ["AddVoter", "Committed", "HandOver", "Raft", "RaftStatus", "RemoveVoter", "VoterPlan"]
