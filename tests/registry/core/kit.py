"""A registry's keys and lines, made in a few words."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from osiris_mesh.clock import Clock, FakeClock
from osiris_mesh.function.name import FunctionName
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_keys, found_root
from osiris_mesh.registry.keys import Delegation
from osiris_mesh.registry.record import Amendment, Binding, Provider, sign
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.statement import Statement
from osiris_mesh.registry.tree import Blob, Change, Tree
from osiris_mesh.registry.trust import Trust

NOW = 1_700_000_000_000
YEAR = 365 * 86_400_000
REGISTRY = "0f" * 16
NAME = FunctionName("acme.com", "image", "sharpen")


def key(number: int) -> KeyPair:
    """Return the same key for the same number."""
    return KeyPair(number.to_bytes(32, "big"))


ROOT_KEYS = [key(1), key(2), key(3)]
VENDOR_KEY = key(10)
STRANGER = key(666)


def delegation(*keys: KeyPair, threshold: int = 1) -> Delegation:
    """Return a delegation to these keys."""
    return Delegation(tuple(sorted(item.public.hex() for item in keys)), threshold)


def root(**more: Any) -> Statement:
    """Return a root, two of three, that delegates acme.com and the names without a vendor to one key."""
    given = {
        "threshold": 2,
        "keys": [ROOT_KEYS[2].public],
        "expires_ms": NOW + YEAR,
        "delegations": {"acme.com": delegation(VENDOR_KEY), "_": delegation(VENDOR_KEY)},
    }
    return found_root(ROOT_KEYS[:2], **{**given, **more})


def trusting(*, vendor: Statement | None = None) -> Trust:
    """Return trust in that root, with the keys of acme.com accepted."""
    trust = Trust(root().digest)
    trust.accept_config(Config(REGISTRY))
    trust.accept_roots([root()], NOW)
    trust.accept_keys("acme.com", [vendor or found_keys("acme.com", [VENDOR_KEY])], NOW)
    return trust


def history(*said: dict[str, Any], keys: list[KeyPair] | None = None, name: FunctionName = NAME) -> list[Statement]:
    """Return signed lines; a map with ``version`` alone or with a digest is a binding, any other an amendment."""
    lines: list[Statement] = []
    for sequence, fields in enumerate(said, 1):
        place: dict[str, Any] = {
            "name": str(name),
            "sequence": sequence,
            "previous": lines[-1].digest.hex() if lines else "",
        }
        is_binding = "digest" in fields or fields.keys() == {"version"}
        line: Binding | Amendment = (
            Binding(**{"digest": "ab" * 32, **place, **fields}) if is_binding else Amendment(**place, **fields)
        )
        lines.append(sign(line, keys or [VENDOR_KEY]))
    return lines


def provider(name: str = "acme", **more: Any) -> Provider:
    """Return a provider."""
    return Provider(**{"id": name, "endpoint": f"https://{name}.example/call", **more})


class MemoryTree:
    """A tree in a map, for tests that bend it."""

    kind = "memory"

    def __init__(self, name: str = "mine", files: dict[str, bytes] | None = None) -> None:
        self.name = name
        self.files = dict(files or {})
        self.reads = 0
        self.faster: list[dict[str, bytes]] = []
        """What others publish while a change is being made, one an attempt."""

    def tag(self) -> str:
        return sha256(repr(sorted(self.files.items())).encode()).hexdigest()

    async def read(self, path: str) -> Blob | None:
        self.reads += 1
        data = self.files.get(path)
        return None if data is None else Blob(data, "now")

    async def paths(self, prefix: str = "") -> list[str]:
        return sorted(path for path in self.files if path.startswith(prefix))

    async def refresh(self) -> str:
        return self.tag()

    async def publish(self, change: Change, message: str) -> str:
        while True:
            files = await change(self)
            if not self.faster:
                self.files.update(files)
                return self.tag()
            self.files.update(self.faster.pop(0))

    async def close(self) -> None:
        pass


async def registry(tree: Tree | None = None, *, clock: Clock | None = None, **more: Any) -> Registry:
    """Return a registry begun in a tree, its root pinned, acme.com's and the vendorless keys in it."""
    made = Registry(tree or MemoryTree(), Trust(root().digest), clock or FakeClock(epoch_ms=NOW), **more)
    keys = [found_keys("acme.com", [VENDOR_KEY]), found_keys("", [VENDOR_KEY])]
    await made.create(Config(REGISTRY, "Acme"), [VENDOR_KEY], root=root(), vendor_keys=keys)
    return made


def reader_of(tree: Tree, *, clock: Clock | None = None, **more: Any) -> Registry:
    """Return another node's view of a tree, which never saw it before."""
    return Registry(tree, Trust(root().digest), clock or FakeClock(epoch_ms=NOW), **more)


def binding(version: str = "1.0.0", name: FunctionName = NAME, **more: Any) -> Binding:
    """Return a binding without a place."""
    return Binding(**{"name": str(name), "version": version, "sequence": 1, "digest": "ab" * 32, **more})
