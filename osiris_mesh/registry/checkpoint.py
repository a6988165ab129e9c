"""The head of a tree: one signed statement over all of its files, so that none is missing, old or added unseen.

The root is RFC 6962's Merkle tree hash. Its leaves are the files in ascending order of their paths' bytes, all but the
checkpoint itself, each leaf the path, a zero byte and SHA-256 of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.ledger.merkle import inclusion_proof, proves_inclusion, tree_root
from osiris_mesh.registry.layout import CHECKPOINT
from osiris_mesh.registry.record import Count, Hex32, Payload, TimeMs, wrong

__all__ = [
    "FORMAT",
    "MAX_AHEAD_MS",
    "MAX_CONFIG",
    "MAX_LIFE_MS",
    "Checkpoint",
    "Config",
    "leaf",
    "proof",
    "proves",
    "root_of",
]

FORMAT: Final = "osiris-registry/1"
MAX_CONFIG: Final = 4096
MAX_LIFE_MS: Final = 30 * 86_400_000
"""A tree is stale at the latest so long after its checkpoint was made, whatever that says of itself."""
MAX_AHEAD_MS: Final = 86_400_000
"""A checkpoint made later than this after the reader's own time is refused."""

RegistryId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", min_length=32, max_length=32)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``config.json``: what the tree is.

    Attributes:
        format: ``osiris-registry/1``.
        id: 16 random bytes, hexadecimal: the same in every copy of this registry.
        name: For people.
    """

    id: RegistryId
    name: Annotated[str, Meta(max_length=128)] = ""
    format: Annotated[str, Meta(max_length=64)] = FORMAT

    def to_bytes(self) -> bytes:
        """Return the file."""
        return msgspec.json.encode({"format": self.format, "id": self.id, "name": self.name}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Config:
        """Read the file.

        Raises:
            RemoteProtocolError: It is none, or of a format this version does not know.
        """
        if len(data) > MAX_CONFIG:
            raise RemoteProtocolError(f"config.json of the registry is longer than {MAX_CONFIG} bytes")
        try:
            config = msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"config.json of the registry is wrong: {error}") from None
        if config.format != FORMAT:
            raise RemoteProtocolError(
                f"the registry has the format {config.format!r}, not {FORMAT!r}", fix="update this program"
            )
        return config


class Checkpoint(Payload, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="checkpoint"):
    """The head.

    Attributes:
        registry: The registry's id.
        sequence: One more with every publication.
        root: Merkle root over the files.
        files: How many.
        time_ms: When it was made.
        expires_ms: From when on the tree counts as stale by its signer's word; see :attr:`stale_ms`.
    """

    registry: RegistryId
    sequence: Count
    root: Hex32
    files: Count
    time_ms: TimeMs
    expires_ms: TimeMs

    @property
    def stale_ms(self) -> int:
        """From when on the tree counts as stale, until somebody signs a new head.

        Bounded, because any publisher may sign a head: one leaked key must not switch the end of a freeze off.
        """
        return min(self.expires_ms, self.time_ms + MAX_LIFE_MS)

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        if self.expires_ms <= self.time_ms:
            raise wrong(at + "expires_ms", "is not after time_ms")


def leaf(path: str, digest: bytes) -> bytes:
    """Return the leaf of a file whose SHA-256 is ``digest``."""
    return path.encode() + b"\0" + digest


def root_of(files: Mapping[str, bytes]) -> bytes:
    """Return the Merkle root over files given as path to SHA-256; the checkpoint among them does not count."""
    return tree_root(_leaves(files))


def proof(files: Mapping[str, bytes], path: str) -> tuple[int, int, list[bytes]]:
    """Return place, number of leaves and audit path that prove one file against the root.

    Raises:
        KeyError: There is no such file.
    """
    leaves = _leaves(files)
    wanted = leaf(path, files[path])
    place = leaves.index(wanted)
    return place, len(leaves), inclusion_proof(leaves, place)


def proves(checkpoint: Checkpoint, path: str, digest: bytes, place: int, audit: Sequence[bytes]) -> bool:
    """Say whether an audit path proves that the file belongs to the checkpoint's tree."""
    return proves_inclusion(leaf(path, digest), place, checkpoint.files, audit, bytes.fromhex(checkpoint.root))


def _leaves(files: Mapping[str, Any]) -> list[bytes]:
    # Code points of UTF-8 sort as their bytes do.
    return [leaf(path, files[path]) for path in sorted(files) if path != CHECKPOINT]
