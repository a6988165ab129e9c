"""Asking one host over HTTP: nothing larger, slower or elsewhere than it may be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from osiris_mesh.errors import Conflict, Denied, OsirisError, Unavailable, UsageError

__all__ = ["MAX_URL", "Answer", "HttpFetch"]

MAX_URL: Final = 2048
_REDIRECTS: Final = 3
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_PIECE: Final = 64 << 10
_COMPLAINT: Final = 16 << 10
_CONNECT: Final = 5.0
_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What the host answered.

    Attributes:
        status: 200, 304 or 404.
        data: The body of a 200.
        etag: Its ETag, or empty.
    """

    status: int
    data: bytes
    etag: str


_MAX_ETAG: Final = 256


class _Problem(msgspec.Struct):
    code: str
    detail: str
    fix: str = ""
    details: dict[str, object] = {}


class HttpFetch:
    """Asks one host.

    Args:
        url: Of the tree, ``https://host/v1/registry/tree`` for a mesh; plain http as well, without a token but to this
            machine.
        token: What is sent as a bearer token; to this host and nowhere else.
        ca_file: Certificates that vouch for the host; None: the system's.

    Raises:
        UsageError: The URL is not one, or would give the token away.
    """

    def __init__(self, url: str, *, token: str = "", ca_file: Path | None = None) -> None:
        fix = "write https://host/path"
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise UsageError("that is not a registry's URL", fix=fix) from None
        if len(url) > MAX_URL or not url.isprintable() or " " in url or parts.scheme not in {"http", "https"}:
            raise UsageError("that is not a registry's URL", fix=fix)
        if not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise UsageError("a registry's URL has a host and a path, and nothing else", fix=fix)
        self.local = _is_local(parts.hostname)
        if token and parts.scheme == "http" and not self.local:
            raise UsageError(f"http to {parts.hostname} would show the token to everybody on the way", fix="use https")
        self.shown = url.rstrip("/")
        self._base = URL(self.shown, encoded=True)
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "osiris-mesh"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, etag: str, *, most: int, seconds: float) -> Answer:
        """Ask for a file.

        Args:
            path: Below the URL; of letters that need no escape.
            etag: What is known already; empty: nothing.
            most: Bytes it may have.
            seconds: Until its last byte.

        Raises:
            Unavailable: It was not answered, or not as it may be.
        """
        headers = {"If-None-Match": etag} if etag else {}
        status, data, found = await self._ask("GET", path, headers, None, most, seconds)
        if status == 200:
            return Answer(200, data, found)
        if (status == 304 and etag) or status in {404, 410}:
            return Answer(304 if status == 304 else 404, b"", etag)
        raise Unavailable(f"{self.shown}/{path} answers {status}{_words(data)}", status=status, maybe=False)

    async def put(self, body: bytes, *, most: int, seconds: float) -> bytes:
        """Publish to the tree as a whole.

        Raises:
            Conflict, Denied, UsageError, Unavailable: As the controller said; its ``details`` are kept.
        """
        headers = {"Content-Type": "application/json"}
        status, data, _ = await self._ask("PUT", "", headers, body, most, seconds)
        if status == 200:
            return data
        said = _error(data)
        if said is not None:
            raise said
        if status in {401, 403, 404, 405, 411, 501}:
            raise Denied(
                f"{self.shown} does not take publications: it answers {status}{_words(data)}",
                fix="publish to a controller, with a token that may",
            )
        raise Unavailable(f"{self.shown} answers {status}{_words(data)}", maybe=status >= 500)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, most: int, seconds: float
    ) -> tuple[int, bytes, str]:
        url = self._base.joinpath(path, encoded=True) if path else self._base
        try:
            async with asyncio.timeout(seconds):
                for _ in range(_REDIRECTS + 1):
                    async with self._opened().request(
                        method,
                        url,
                        headers=headers,
                        data=BytesIO(body) if body is not None else None,
                        allow_redirects=False,
                    ) as response:
                        if response.status not in _MOVED or method != "GET":
                            limit = most if response.status == 200 else _COMPLAINT
                            data = await self._body(response, url, limit, whole=response.status == 200)
                            return response.status, data, _etag(response.headers.get("ETag", ""))
                        url = self._followed(url, response.headers.get("Location", ""))
        except TimeoutError:
            raise Unavailable(f"{url} did not answer within {seconds:g} s", maybe=method != "GET") from None
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{self.shown} can't be reached: {error}", maybe=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(
                f"{url} can't be read: {str(error) or type(error).__name__}", maybe=method != "GET"
            ) from None
        raise Unavailable(f"{self.shown}/{path} leads elsewhere more than {_REDIRECTS} times", maybe=False)

    def _followed(self, url: URL, location: str) -> URL:
        try:
            target = url.join(URL(location[:MAX_URL], encoded=True))
        except ValueError:
            target = URL()
        if not location or not target.absolute or target.origin() != self._base.origin():
            # Another host would get the token, and be believed to be this one when it says that something is not there.
            raise Unavailable(f"{url} leads to another host: {location[:200]!r}", maybe=False)
        return target

    async def _body(self, response: aiohttp.ClientResponse, url: URL, most: int, *, whole: bool) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if whole and encoding != "identity":
            raise Unavailable(f"{url} is sent as {encoding[:40]}, which was not asked for", maybe=False)
        if whole and (response.content_length or 0) > most:
            raise Unavailable(f"{url} has {response.content_length} bytes, more than {most}", maybe=False)
        pieces, size = [], 0
        async for piece in response.content.iter_chunked(_PIECE):
            size += len(piece)
            if size > most:
                if not whole:
                    break
                raise Unavailable(f"{url} has more than {most} bytes", maybe=False)
            pieces.append(piece)
        return b"".join(pieces)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            try:
                verified = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise Unavailable(f"the certificates in {self._ca_file} can't be read: {error}", maybe=False) from None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=verified, limit=_CONNECTIONS),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # The user's proxies; none lies between us and this machine.
                trust_env=not self.local,
                requote_redirect_url=False,
            )
        return self._session


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _error(data: bytes) -> OsirisError | None:
    """Return the error a controller answered, or None if it is not one."""
    try:
        problem = msgspec.json.decode(data, type=_Problem)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if problem.code == "unauthenticated":
        return Denied(problem.detail, fix=problem.fix)
    wire = {"code": problem.code, "what": problem.detail, "fix": problem.fix, "details": problem.details}
    found = OsirisError.from_wire(wire)
    return found if isinstance(found, (Conflict, Denied, UsageError, Unavailable)) else None


def _words(data: bytes) -> str:
    said = _error(data)
    text = said.what if said is not None else data.decode("utf-8", "replace")
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:400]).split())[:200]
    return f": {text}" if text else ""


def _etag(text: str) -> str:
    """Return an ETag that can be sent back; empty for what is none."""
    return text if len(text) <= _MAX_ETAG and text.isascii() and text.isprintable() else ""
