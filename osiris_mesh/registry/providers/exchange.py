"""One bounded request over HTTP, and what its failure means: the part that every endpoint over HTTP shares."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from osiris_mesh.errors import (
    CheckFailed,
    Conflict,
    DeadlineExceeded,
    Denied,
    LimitExceeded,
    NotFound,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_mesh.function.json_form import from_json
from osiris_mesh.registry.guard import Guard
from osiris_mesh.registry.providers.endpoint import unreachable

__all__ = ["MAX_ANSWER", "Answer", "Exchange", "check_url", "error_of", "is_loopback"]

MAX_ANSWER: Final = 16 << 20
"""Bytes of an answer that are read."""
_MAX_PROBLEM: Final = 256 << 10
_REDIRECTS: Final = range(300, 400)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        media: Media type, without parameters, in lower case.
        body: Whole body.
        headers: Headers, names in lower case.
    """

    status: int
    media: str
    body: bytes
    headers: Mapping[str, str]

    def json(self, where: str) -> object:
        """Return the body decoded.

        Raises:
            RemoteProtocolError: It is not JSON.
        """
        if self.media != "application/json" and not self.media.endswith("+json"):
            raise RemoteProtocolError(f"{where[:200]} answered {self.media[:60] or 'no media type'} and not JSON")
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"{where[:200]} answered what is not JSON: {error}") from None


class Exchange:
    """Sends requests.

    Args:
        session: Made by :func:`osiris_mesh.registry.providers.network.open_session`.
        guard: The same that session has.
    """

    def __init__(self, session: aiohttp.ClientSession, guard: Guard) -> None:
        self.session = session
        self.guard = guard

    async def send(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = MAX_ANSWER,
    ) -> Answer:
        """Send one request and return the whole answer; a redirect is refused.

        Args:
            method: HTTP method.
            url: Encoded already.
            seconds: For all of it.
            body: JSON.
            headers: More headers.
            most: Bytes of the answer that are taken.

        Raises:
            Denied: The host may not be asked.
            Unavailable: No answer; ``maybe`` says whether the request may have arrived.
            DeadlineExceeded: No whole answer in time.
            LimitExceeded: The answer is larger.
        """
        check_url(url, self.guard)
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "osiris-mesh"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        try:
            async with (
                asyncio.timeout(seconds),
                self.session.request(
                    method,
                    URL(url, encoded=True),
                    data=body,
                    headers=sent,
                    allow_redirects=False,
                ) as response,
            ):
                data = await _read(response, most, url)
                found = {name.lower(): value for name, value in response.headers.items()}
                answer = Answer(response.status, response.content_type.lower(), data, found)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{url[:200]} did not answer in {seconds:.1f} s", fix="give the call more time", maybe=True
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise unreachable(url, str(error), maybe=False) from None
        except aiohttp.InvalidURL:
            raise UsageError(f"{url[:200]!r} is not a URL") from None
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(url, str(error) or type(error).__name__, maybe=True) from None
        if answer.status in _REDIRECTS:
            raise Unavailable(
                f"{url[:200]} redirects, which is not followed",
                fix="name the URL itself in the record",
                maybe=True,
                status=answer.status,
            )
        return answer


def check_url(url: str, guard: Guard) -> None:
    """Check a URL as far as that goes without looking its host up.

    Raises:
        UsageError: Not https, nor http to this machine.
        Denied: Its host is an address that may not be asked.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise UsageError(f"{url[:200]!r} is not a URL") from None
    if not host or parts.scheme not in {"https", "http"} or parts.username is not None:
        raise UsageError(f"{url[:200]!r} is not an endpoint of a provider", fix="write https://HOST/PATH")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise UsageError(f"http to {host[:200]} would send arguments in the clear", fix="write https://")
    guard.check_host(host)


def is_loopback(host: str) -> bool:
    """Say whether plain HTTP may be spoken to a host."""
    return host in _LOOPBACK


async def _read(response: aiohttp.ClientResponse, most: int, url: str) -> bytes:
    if "Content-Encoding" in response.headers and response.headers["Content-Encoding"] != "identity":
        raise RemoteProtocolError(f"{url[:200]} answered compressed though it was asked not to")
    length = response.content_length
    pieces: list[bytes] = []
    size = length or 0
    if size <= most:
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > most:
                break
            pieces.append(piece)
    if size > most:
        response.close()
        raise LimitExceeded(
            f"the answer of {url[:200]} has more than {most} bytes", limit="answer", fix="ask for less", maybe=True
        )
    return b"".join(pieces)


def error_of(answer: Answer, where: str, function: str) -> OsirisError:
    """Return the error an answer that is no success means.

    A body of ``application/problem+json`` with our own ``code``, as a mesh's gateway sends it, becomes that very error;
    anything else is told by its status. Whether the function may have run is told by the status alone, and of the
    details stay those that only describe: what programs act on here is not for a provider to say.
    """
    told: dict[str, object] = {}
    if len(answer.body) <= _MAX_PROBLEM:
        try:
            decoded = answer.json(where)
        except RemoteProtocolError:
            decoded = None
        if isinstance(decoded, dict):
            told = decoded
    code = told.get("code")
    line = f"{function} at {where[:200]}"
    if not isinstance(code, str) or not isinstance(told.get("detail"), str):
        return _by_status(answer, line, _text(told, answer))
    found = OsirisError.from_wire(
        {
            "code": _CODES.get(code, code),
            "what": told["detail"],
            "fix": told.get("fix", ""),
            "details": _described(told.get("details", {})),
        }
    )
    is_refusal = isinstance(found, _REFUSALS)
    if is_refusal and answer.status >= 500:
        return _by_status(answer, line, _text(told, answer))
    if isinstance(found, (Unavailable, DeadlineExceeded)) or (is_refusal and answer.status not in _SURELY_NOT):
        found.details["maybe"] = True
    return found


def _described(details: object) -> dict[str, object]:
    """Return what of an answer's details is kept."""
    try:
        given = from_json(details)
    except OsirisError:
        return {}
    kept = {key: given[key] for key in _DESCRIBING if key in given} if isinstance(given, dict) else {}
    wait = kept.get("retry_after_ms", 0)
    if type(wait) is not int or not 0 <= wait <= _MAX_WAIT_MS:
        del kept["retry_after_ms"]
    return kept


_REFUSALS: Final = (UsageError, Conflict, NotFound, Denied, Overloaded, CheckFailed)
_SURELY_NOT: Final = frozenset({400, 401, 403, 404, 413, 415, 422, 429})
"""Statuses that say that nothing was begun."""
_MAX_WAIT_MS: Final = 86_400_000
_DESCRIBING: Final = (
    *("type", "message", "traceback", "path", "cause"),
    *("exit_code", "signal", "stderr", "limit", "name", "retry_after_ms"),
)
"""Details that describe a failure; no others are taken from a provider."""
_CODES: Final = {"unauthenticated": "denied", "method": "usage", "too_large": "usage", "media_type": "usage"}


def _text(told: Mapping[str, object], answer: Answer) -> str:
    for key in ("detail", "message", "error", "title"):
        text = told.get(key)
        if isinstance(text, dict):
            text = text.get("message")
        if isinstance(text, str) and text:
            return "".join(letter if letter.isprintable() else " " for letter in text[:500])
    return f"status {answer.status}"


def _by_status(answer: Answer, what: str, text: str) -> OsirisError:
    status = answer.status
    line = f"{what}: {text}"
    if status in {401, 403}:
        return Denied(line, fix="enter a credential for this provider on this node", status=status, maybe=False)
    maybe = status not in _SURELY_NOT
    if status in {404, 405, 410, 501}:
        return NotFound(line, fix="the provider's record may be out of date", status=status, maybe=maybe)
    if status == 409:
        return Conflict(line, status=status, maybe=maybe)
    if status in {408, 504}:
        return DeadlineExceeded(line, status=status, maybe=True)
    if status == 429:
        after = answer.headers.get("retry-after", "")
        wait = int(after) * 1000 if after.isascii() and after.isdigit() and len(after) < 6 else 1000
        return Overloaded(line, fix="call again later, or another provider", retry_after_ms=wait, maybe=False)
    if status >= 500:
        return Unavailable(line, fix="another provider of the function may answer", status=status, maybe=True)
    return UsageError(line, fix="see what the provider's description says of its arguments", status=status, maybe=maybe)
