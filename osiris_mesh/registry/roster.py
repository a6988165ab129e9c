"""Which registries a node asks, in which order, and which of their roots it believes: a file of its home.

The order is the precedence; each machine has its own. Nothing secret stands in it: a URL with a password in it is
refused, and tokens are named by the file that holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from osiris_mesh.errors import Conflict, NotFound, UsageError

__all__ = ["LEDGER", "MAX_REGISTRIES", "Entry", "Roster", "kind_of"]

MAX_REGISTRIES: Final = 32
_MAX_TEXT: Final = 1024
_MAX_ROUTES: Final = 64
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_PATTERN: Final = re.compile(r"[A-Za-z0-9._*/-]{1,384}\Z")
_HEX: Final = re.compile(r"[0-9a-f]{64}\Z")
_SCP: Final = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^/\\].*\Z")
_KINDS: Final = "git+https://…, git+ssh://…, git+file://…, https://…, ipfs://…, ipns://…, file://…, or ledger:"
_OPTIONS: Final = frozenset({"ca_file", "token_file", "branch", "gateways", "api", "key", "renew_key"})

LEDGER: Final = "ledger:"
"""URL of the registry in the mesh's own ledger."""


def kind_of(url: str) -> str:
    """Return which back-end a URL means: ``git``, ``http``, ``ipfs``, ``ledger`` or ``folder``.

    Raises:
        UsageError: None; or a password stands in it.
    """
    if not 0 < len(url) <= _MAX_TEXT or not url.isprintable() or url != url.strip() or url.startswith("-"):
        raise UsageError(f"{url[:80]!r} is not a registry's URL", fix=f"write {_KINDS}")
    if url == LEDGER:
        return "ledger"
    if _SCP.match(url):
        return "git"
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        raise UsageError(f"{url[:80]!r} is not a registry's URL", fix=f"write {_KINDS}") from None
    if password is not None:
        raise UsageError(
            "a registry's URL must not hold a password",
            fix="let git's own credential helper keep it, or name a file with --token-file",
        )
    scheme = parts.scheme
    if scheme.startswith("git+"):
        if scheme.removeprefix("git+") in {"https", "http", "ssh", "file"}:
            return "git"
    elif scheme == "ssh" or (scheme in {"https", "http", "file"} and parts.path.endswith(".git")):
        return "git"
    elif scheme in {"https", "http"} and parts.hostname:
        return "http"
    elif scheme in {"ipfs", "ipns"}:
        return "ipfs"
    elif scheme == "file" or (not scheme and url.startswith("/")):
        return "folder"
    raise UsageError(f"{url[:80]!r} is not a registry's URL", fix=f"write {_KINDS}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One registry.

    Attributes:
        name: What the user calls it.
        url: Where it is; see :func:`kind_of`.
        pin: Digest of any of its roots, hexadecimal; empty: the first root that is seen is believed and kept.
        routes: Patterns of names it is asked about, ``*`` for any letters of a segment; empty: all.
        options: ``ca_file``, ``token_file``, ``branch``, ``gateways`` (with commas), ``api``, ``key``, ``renew_key``.
    """

    name: str
    url: str
    pin: str = ""
    routes: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        """Which back-end it is."""
        return kind_of(self.url)

    @property
    def is_here(self) -> bool:
        """It is a place of the machine of whoever asks it: a folder, or a repository in one."""
        # A scheme is split off in lower case, whichever it was written in.
        return self.kind == "folder" or urlsplit(self.url).scheme in {"file", "git+file"}

    def option(self, name: str) -> str:
        """Return one option; empty if it was not given."""
        return dict(self.options).get(name, "")

    def check(self) -> Entry:
        """Return this entry.

        Raises:
            UsageError: Something is wrong with it.
        """
        if not _NAME.match(self.name):
            raise UsageError(
                f"{self.name[:64]!r} can't name a registry", fix="use small letters, digits, . _ and -, at most 63"
            )
        kind_of(self.url)
        if self.pin and not _HEX.match(self.pin):
            raise UsageError(f"{self.pin[:70]!r} is not a root's digest", fix="it is 64 hexadecimal digits")
        for route in self.routes:
            if not _PATTERN.match(route):
                raise UsageError(f"{route[:70]!r} is not a pattern of names", fix="write it like acme.com/*/*")
        if len(self.routes) > _MAX_ROUTES:
            raise UsageError(f"a registry has at most {_MAX_ROUTES} routes")
        for key, value in self.options:
            if key not in _OPTIONS or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
                raise UsageError(f"{key!r} is not an option of a registry", fix=f"use {', '.join(sorted(_OPTIONS))}")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return it for the file, and for programs."""
        return {
            "name": self.name,
            "url": self.url,
            "kind": self.kind,
            "pin": self.pin,
            "routes": list(self.routes),
            "options": dict(self.options),
        }

    @classmethod
    def from_json(cls, value: Any) -> Entry:
        """Read what :meth:`to_json` gave.

        Raises:
            UsageError: Not that.
        """
        if not isinstance(value, dict):
            raise UsageError("a registry is a map")
        texts = (value.get("name"), value.get("url"), value.get("pin", ""))
        routes = value.get("routes", [])
        options = value.get("options", {})
        if (
            not all(isinstance(text, str) for text in texts)
            or not (isinstance(routes, list) and all(isinstance(item, str) for item in routes))
            or not (
                isinstance(options, dict) and all(isinstance(item, str) for pair in options.items() for item in pair)
            )
        ):
            raise UsageError("a registry has the texts name, url and pin, a list of routes and a map of options")
        name, url, pin = map(str, texts)
        return cls(name, url, pin, tuple(routes), tuple(sorted(options.items()))).check()


@dataclass(frozen=True, slots=True)
class Roster:
    """The registries of a node, first the one whose word counts most.

    Attributes:
        entries: In order of precedence.
    """

    entries: tuple[Entry, ...] = ()

    def __getitem__(self, name: str) -> Entry:
        """Return a registry by name.

        Raises:
            NotFound: There is none of that name.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise NotFound(f"no registry is called {name[:64]!r}", fix="see: osiris-mesh registry list", name=name[:64])

    def add(self, entry: Entry, *, first: bool = False) -> Roster:
        """Return the roster with one more; the same once more changes nothing.

        Args:
            entry: What to add.
            first: Before all others, not after them.

        Raises:
            Conflict: Its name means another registry.
            UsageError: Something is wrong with it, or there are too many.
        """
        entry.check()
        for known in self.entries:
            if known.name == entry.name:
                if known == entry:
                    return self
                raise Conflict(
                    f"the registry {entry.name} is {known.url} already",
                    fix=f"choose another name, or: osiris-mesh registry remove {entry.name}",
                )
        if len(self.entries) >= MAX_REGISTRIES:
            raise UsageError(f"a node asks at most {MAX_REGISTRIES} registries")
        return Roster((entry, *self.entries) if first else (*self.entries, entry))

    def remove(self, name: str) -> Roster:
        """Return the roster without one.

        Raises:
            NotFound: There is none of that name.
        """
        gone = self[name]
        return Roster(tuple(entry for entry in self.entries if entry != gone))

    def reorder(self, names: Sequence[str]) -> Roster:
        """Return the roster in another order: those named first, the others after them.

        Raises:
            NotFound: One is not there.
        """
        first = tuple(self[name] for name in dict.fromkeys(names))
        return Roster((*first, *(entry for entry in self.entries if entry not in first)))

    def pin(self, name: str, digest: str) -> Roster:
        """Return the roster with another pinned root for one registry.

        Raises:
            NotFound: There is none of that name.
            UsageError: Not a digest.
        """
        changed = replace(self[name], pin=digest).check()
        return Roster(tuple(changed if entry.name == name else entry for entry in self.entries))

    def to_text(self) -> str:
        """Return the file."""
        return json.dumps({"registries": [entry.to_json() for entry in self.entries]}, indent=2) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Roster:
        """Read the file.

        Raises:
            UsageError: It is damaged.
        """
        try:
            value = json.loads(text)
        except ValueError:
            raise UsageError("it is not JSON") from None
        rows = value.get("registries") if isinstance(value, dict) else None
        if not isinstance(rows, list):
            raise UsageError("it has no list of registries")
        roster = cls()
        for row in rows:
            roster = roster.add(Entry.from_json(row))
        return roster
