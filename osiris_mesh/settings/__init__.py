"""One frozen, typed object; one section a subsystem; named presets.

A section's file gives every field's meaning, unit and trade-off. Presets: ``local`` (nodes on one machine), ``lan``
(the default), ``wan``, ``test`` (as ``local``, impatient).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from osiris_mesh.errors import UsageError
from osiris_mesh.settings.gateway import GatewaySettings
from osiris_mesh.settings.gossip import GossipSettings
from osiris_mesh.settings.invoke import InvokeSettings
from osiris_mesh.settings.ledger import LedgerSettings
from osiris_mesh.settings.link import LinkSettings
from osiris_mesh.settings.raft import RaftSettings
from osiris_mesh.settings.registry import RegistrySettings
from osiris_mesh.settings.runtime import RuntimeSettings

__all__ = [
    "PRESETS",
    "GatewaySettings",
    "GossipSettings",
    "InvokeSettings",
    "LedgerSettings",
    "LinkSettings",
    "RaftSettings",
    "RegistrySettings",
    "RuntimeSettings",
    "Settings",
]

PRESETS: Final = ("local", "lan", "wan", "test")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one controller."""

    link: LinkSettings = field(default_factory=LinkSettings)
    gossip: GossipSettings = field(default_factory=GossipSettings)
    raft: RaftSettings = field(default_factory=RaftSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    invoke: InvokeSettings = field(default_factory=InvokeSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)

    @classmethod
    def preset(cls, name: str) -> Settings:
        """Return a named preset.

        Raises:
            UsageError: No preset has that name.
        """
        if name not in PRESETS:
            raise UsageError(f"no preset is called {name!r}", fix=f"choose one of {', '.join(PRESETS)}")
        return cls(
            link=LinkSettings.preset(name),
            gossip=GossipSettings.preset(name),
            raft=RaftSettings.preset(name),
            ledger=LedgerSettings.preset(name),
            registry=RegistrySettings.preset(name),
            runtime=RuntimeSettings.preset(name),
            invoke=InvokeSettings.preset(name),
            gateway=GatewaySettings.preset(name),
        )
