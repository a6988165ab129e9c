"""The file of what this node shows to providers: who is shown what where, and the file each secret is in.

``registry/credentials.json`` of the home, mode 0600: the provider's id to its origin, the file of its secret, the
functions whose calls show it, and the header it goes in where that is not ``Authorization: Bearer``. The command line
writes it, the controller reads it again whenever it or a file of a secret changed; so nothing needs a restart, and no
secret passes through a command or a log. One that can't be used stops the calls of its own provider alone.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from osiris_mesh.clock import Clock
from osiris_mesh.errors import Conflict, NotFound, OsirisError, UsageError
from osiris_mesh.node.options import write_private
from osiris_mesh.registry.opening import secret_of
from osiris_mesh.registry.providers.credentials import Credential, Credentials

__all__ = ["CredentialFile", "KeptCredentials", "entry_of"]

_MOST: Final = 256
_MAX_FILE: Final = 1 << 20
_LOOK_S: Final = 1.0
_PROVIDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}\Z")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_SCHEMES: Final = frozenset({"http", "https", "mcp", "mesh"})
_KEYS: Final = frozenset({"origin", "token_file", "header", "functions"})
_PATTERN: Final = re.compile(r"[A-Za-z0-9._*/-]{1,384}\Z")
_MAX_PATTERNS: Final = 64
_log = logging.getLogger(__name__)


def entry_of(value: Any) -> dict[str, Any]:
    """Return one credential's entry: ``origin``, ``token_file``, and ``header`` and ``functions`` where it has them.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, dict) or not value.keys() <= _KEYS:
        raise UsageError("a credential is a map of origin, token_file, header and functions")
    if any(type(value[key]) is not (list if key == "functions" else str) for key in value):
        raise UsageError("a credential's origin, token_file and header are texts, its functions a list of texts")
    origin, path, header = (str(value.get(key, "")) for key in ("origin", "token_file", "header"))
    if len(origin) > 1024 or not _is_origin(origin):
        raise UsageError(
            f"{origin[:80]!r} is no origin of a provider", fix="write it like https://api.acme.com, without a password"
        )
    if not path or len(path) > 4096 or "\0" in path:
        raise UsageError("a credential needs the file its secret is in", fix="give --token-file FILE")
    if header and not _HEADER.match(header):
        raise UsageError(f"{header[:80]!r} is no name of a header", fix="use letters, digits and -")
    found: dict[str, Any] = {"origin": origin, "token_file": path}
    if header:
        found["header"] = header
    if "functions" in value:
        found["functions"] = _patterns(value["functions"])
    return found


class CredentialFile:
    """The file.

    Args:
        home: The node's folder.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "registry" / "credentials.json"

    def read(self) -> dict[str, Any]:
        """Return the entries by provider as they stand, good or bad; none without a file.

        Raises:
            Conflict: It is damaged as a whole.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
            value = json.loads(data.decode("utf-8")) if len(data) <= _MAX_FILE else None
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError, OSError) as error:
            raise self._damaged(str(error)) from None
        if not isinstance(value, dict) or len(value) > _MOST:
            raise self._damaged(f"it is not a map of at most {_MOST} providers")
        return value

    def set(self, provider: str, entry: Mapping[str, Any]) -> bool:
        """Keep what a provider is shown; say whether that changed anything.

        Raises:
            UsageError: The provider's id or the entry can't be.
            Conflict: The secret can't be read, or the file is damaged or full.
        """
        if not _PROVIDER.match(provider):
            raise UsageError(
                f"{provider[:80]!r} can't be a provider's id", fix="see: osiris-mesh registry resolve NAME"
            )
        kept = entry_of(dict(entry))
        _made(provider, kept)
        entries = self.read()
        if entries.get(provider) == kept:
            return False
        if provider not in entries and len(entries) >= _MOST:
            raise Conflict(f"there are {_MOST} credentials, the most there can be", fix="remove one that is not used")
        self._write(entries | {provider: kept})
        return True

    def remove(self, provider: str) -> None:
        """Forget what a provider is shown; the file of the secret stays.

        Raises:
            NotFound: There is none.
        """
        entries = self.read()
        if provider not in entries:
            raise NotFound(
                f"no credential is kept for {provider[:128]}", fix="see: osiris-mesh registry credential list"
            )
        del entries[provider]
        self._write(entries)

    def listing(self) -> list[dict[str, Any]]:
        """Return what is kept, by provider: where and for what it is shown, its file and header, and what is wrong."""
        found = []
        for provider, value in sorted(self.read().items()):
            row: dict[str, Any] = {"provider": provider, "origin": "", "functions": [], "token_file": ""}
            row |= {"header": "", "error": ""}
            try:
                row |= entry_of(value)
                _made(provider, entry_of(value))
            except OsirisError as error:
                row["error"] = str(error)
            found.append(row)
        return found

    def _write(self, entries: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.path, json.dumps(entries, indent=2, sort_keys=True) + "\n")

    def _damaged(self, why: str) -> Conflict:
        return Conflict(f"{self.path} is damaged: {why}", fix="mend it, or move it away and set credentials anew")


class KeptCredentials(Credentials):
    """The credentials of the file, as it is now.

    Args:
        file: The file.
        clock: Time.
    """

    def __init__(self, file: CredentialFile, clock: Clock) -> None:
        super().__init__({})
        self._file = file
        self._clock = clock
        self._look_at = 0.0
        self._state: tuple[object, ...] = ()
        self._files: tuple[str, ...] = ()
        self._bad: dict[str, OsirisError] = {}
        self._good: Credentials = Credentials({})

    def headers(self, provider: str, endpoint: str, name: str | None) -> dict[str, str]:
        """See :meth:`Credentials.headers`.

        Raises:
            Conflict: What this provider is to be shown can't be used.
        """
        self._look(provider)
        return self._good.headers(provider, endpoint, name)

    def value(self, provider: str, endpoint: str, name: str | None) -> str:
        """See :meth:`Credentials.value`; raises as :meth:`headers`."""
        self._look(provider)
        return self._good.value(provider, endpoint, name)

    def _look(self, provider: str) -> None:
        now = self._clock.monotonic()
        # The file itself at every call, so that what was just set is shown to the very next; secrets now and then.
        if now >= self._look_at or self._state[:1] != (_stamp(self._file.path),):
            self._look_at = now + _LOOK_S
            state = self._now()
            if state != self._state:
                self._read()
                self._state = self._now()
        error = self._bad.get(provider)
        if error is not None:
            raise Conflict(
                f"the credential of {provider} can't be used: {error.what}",
                fix=error.fix or "osiris-mesh registry credential list",
                maybe=False,
            )

    def _now(self) -> tuple[object, ...]:
        return (_stamp(self._file.path), *map(_stamp, self._files))

    def _read(self) -> None:
        good: dict[str, Credential] = {}
        self._bad = {}
        try:
            entries = self._file.read()
        except OsirisError as error:
            # What held before holds: a slip of an editor must not send calls out without what they were to show.
            _log.error("credentials_damaged", extra={"error": str(error)})
            return
        files: list[str] = []
        for provider, value in entries.items():
            try:
                entry = entry_of(value)
                files.append(entry["token_file"])
                good[provider] = _made(provider, entry)
            except OsirisError as error:
                _log.error("credential_unusable", extra={"provider": provider[:128], "error": str(error)})
                self._bad[provider] = error
        self._files = tuple(files)
        self._good = Credentials(good)


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0 and parts.scheme in _SCHEMES and "@" not in parts.netloc
    except ValueError:
        return False


def _patterns(given: list[Any]) -> list[str]:
    if not 0 < len(given) <= _MAX_PATTERNS:
        raise UsageError(f"a credential is for 1 to {_MAX_PATTERNS} patterns of functions", fix="use wider patterns")
    for pattern in given:
        if type(pattern) is not str or not _PATTERN.match(pattern):
            raise UsageError(f"{str(pattern)[:80]!r} is no pattern of functions", fix="write it like acme.com/*/*")
    return sorted(set(given))


def _made(provider: str, entry: Mapping[str, Any]) -> Credential:
    secret = secret_of(entry["token_file"])
    header, functions = entry.get("header", ""), tuple(entry.get("functions", ()))
    if header:
        made = Credential(entry["origin"], secret, header, functions)
    else:
        made = Credential.bearer(entry["origin"], secret, functions)
    Credentials({provider: made})
    return made


def _stamp(path: str | Path) -> tuple[int, int, int, int] | None:
    try:
        found = Path(path).expanduser().stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode
