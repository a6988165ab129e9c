"""One node's folder: where each thing lies under ``$OSIRIS_HOME``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Home"]


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one node.

    Attributes:
        path: The folder itself, mode 0700.
    """

    path: Path

    @classmethod
    def default(cls) -> Home:
        """Return ``$OSIRIS_HOME``, or ``~/.osiris``."""
        given = os.environ.get("OSIRIS_HOME", "")
        return cls(Path(given).expanduser() if given else Path.home() / ".osiris").absolute()

    def absolute(self) -> Home:
        """Return the same home by its absolute path."""
        return Home(self.path.absolute())

    @property
    def node_key(self) -> Path:
        """Seed of the node's key (0600)."""
        return self.path / "keys" / "node.key"

    @property
    def user_key(self) -> Path:
        """Seed of the key with which this home's user signs deployments (0600)."""
        return self.path / "keys" / "user.key"

    @property
    def network_key(self) -> Path:
        """The mesh's network key (0600)."""
        return self.path / "keys" / "network.key"

    @property
    def mesh_file(self) -> Path:
        """Which mesh this home belongs to: mesh id and name."""
        return self.path / "mesh.json"

    @property
    def settings_file(self) -> Path:
        """What ``init`` and ``join`` were told, the chosen port included."""
        return self.path / "settings.json"

    @property
    def ledger(self) -> Path:
        """Folder of the chain."""
        return self.path / "ledger"

    @property
    def raft(self) -> Path:
        """Folder of the Raft journal."""
        return self.path / "raft"

    @property
    def library(self) -> Path:
        """Folder of bundles, by content hash."""
        return self.path / "library"

    @property
    def environments(self) -> Path:
        """Folder of installed dependencies, by lock hash."""
        return self.path / "environments"

    @property
    def logs(self) -> Path:
        """Folder of log files."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Folder of what exists only while the controller runs."""
        return self.path / "run"

    @property
    def socket(self) -> Path:
        """The controller's Unix socket (0600)."""
        return self.run / "node.sock"

    @property
    def lock(self) -> Path:
        """Held locked (flock) by the controller that uses this home."""
        return self.run / "node.lock"

    @property
    def process_file(self) -> Path:
        """JSON: pid, peer_id, mesh_id and listen of the running controller."""
        return self.run / "node.json"

    def make(self) -> None:
        """Create the folders, all mode 0700."""
        for folder in (
            self.path,
            self.node_key.parent,
            self.ledger,
            self.raft,
            self.library,
            self.environments,
            self.logs,
            self.run,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
