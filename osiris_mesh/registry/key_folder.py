"""A folder of private keys: one file a key, ``<name>.key``, 64 hexadecimal digits of the seed, mode 0600."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from osiris_mesh.errors import Conflict, NotFound, UsageError
from osiris_mesh.identity.keys import KeyPair

__all__ = ["KeyFolder"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_MAX_KEYS: Final = 1024


class KeyFolder:
    """Private keys by name.

    Args:
        path: The folder; made on the first write, mode 0700.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, name: str) -> KeyPair:
        """Make a new key and write its file.

        Raises:
            Conflict: There is one of that name; it is never overwritten.
            UsageError: Not a name.
        """
        return self.put(name, KeyPair.generate())

    def put(self, name: str, key: KeyPair) -> KeyPair:
        """Write a key's file; raises as :meth:`create`."""
        path = self._file(name)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        key.save(path)
        return key

    def get(self, name: str) -> KeyPair:
        """Read a key.

        Raises:
            NotFound: None of that name.
            Conflict: Its file can be read by others, or is damaged.
            UsageError: Not a name.
        """
        path = self._file(name)
        try:
            return KeyPair.load(path)
        except FileNotFoundError:
            known = ", ".join(self.names()) or "none yet"
            raise NotFound(f"no key is called {name!r}", fix=f"there are: {known}") from None

    def names(self) -> list[str]:
        """Return the names of the keys there are, ascending, at most 1024."""
        if not self._path.is_dir():
            return []
        found = sorted(item.stem for item in self._path.glob("*.key") if _NAME.match(item.stem) and item.is_file())
        if len(found) > _MAX_KEYS:
            raise Conflict(f"{self._path} holds more than {_MAX_KEYS} keys", fix="move old keys elsewhere")
        return found

    def _file(self, name: str) -> Path:
        if not _NAME.match(name):
            raise UsageError(f"{name!r} is not a name for a key", fix="use letters, digits, '.', '_' and '-'")
        return self._path / f"{name}.key"
