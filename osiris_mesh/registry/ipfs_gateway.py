"""Blocks and pointers from whoever has them: trustless gateways, tried one after the other and side by side.

Nothing a gateway says is believed: blocks must hash to their ids, pointers carry their key's signature. So the choice
among gateways is a matter of speed alone. The best known one is asked first, the next after :data:`HEDGE_S` or at its
failure; the first block that holds counts. A pointer is asked of all, because an old record is as well signed as the
newest: the highest sequence among the answers counts. Source: the Trustless Gateway specification.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import aiohttp

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.registry.ipfs_cid import Cid, IpnsName
from osiris_mesh.registry.ipfs_ipns import MAX_RECORD, IpnsRecord, read_record
from osiris_mesh.registry.ipfs_unixfs import MAX_BLOCK

__all__ = ["Gateway", "NoAnswer", "Sources", "bounded", "checked_url"]

T = TypeVar("T")

HEDGE_S: Final = 0.5
"""How long the best gateway is waited for before the next one is asked as well."""
REST_S: Final = 5.0
"""How long a gateway that failed is asked last; doubles up to :data:`MAX_REST_S`."""
MAX_REST_S: Final = 300.0
_ONE_S: Final = 20.0
_ALL_S: Final = 30.0
_GRACE_S: Final = 1.0
_UNKNOWN_S: Final = 0.25
_CHUNK: Final = 65_536
_log = logging.getLogger(__name__)


class NoAnswer(Unavailable):
    """A gateway could not be asked at all, or did not answer in time."""


class Source(Protocol):
    """Somebody who may have blocks and pointers."""

    @property
    def url(self) -> str:
        """Where it is, for people."""
        ...

    async def block(self, cid: Cid) -> bytes:
        """Return a block's bytes, checked.

        Raises:
            Unavailable: It does not give them.
            RemoteProtocolError: It gives others.
        """
        ...

    async def record(self, name: IpnsName) -> IpnsRecord:
        """Return a pointer's record, verified; it may have expired.

        Raises:
            Unavailable: It does not give one.
            RemoteProtocolError: It is not the name's.
        """
        ...


def checked_url(url: str) -> str:
    """Return a URL without its last slash.

    Raises:
        UsageError: Not http or https, or with a user, a query or a fragment.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"} or not rest or any(letter in rest for letter in "@?# ") or len(url) > 512:
        raise UsageError(f"{url[:80]!r} is no address of a gateway", fix="it looks like https://trustless-gateway.link")
    return url.rstrip("/")


async def bounded(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Read an answer to its end.

    Raises:
        RemoteProtocolError: It is longer than ``limit``.
    """
    data = bytearray()
    async for chunk in content.iter_chunked(_CHUNK):
        data += chunk
        if len(data) > limit:
            raise RemoteProtocolError(f"the answer is longer than {limit} bytes")
    return bytes(data)


class Gateway:
    """One trustless gateway.

    Args:
        session: Makes requests.
        url: Where it is.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = checked_url(url)

    async def block(self, cid: Cid) -> bytes:
        """As :meth:`Source.block`."""
        data = await self._get(f"/ipfs/{cid}?format=raw", "application/vnd.ipld.raw", MAX_BLOCK)
        if not cid.holds(data):
            raise RemoteProtocolError(f"{self.url} answered with other bytes than those of {cid}")
        return data

    async def record(self, name: IpnsName) -> IpnsRecord:
        """As :meth:`Source.record`."""
        kind = "application/vnd.ipfs.ipns-record"
        return read_record(name, await self._get(f"/ipns/{name}?format=ipns-record", kind, MAX_RECORD))

    async def _get(self, path: str, kind: str, limit: int) -> bytes:
        headers = {"accept": kind, "accept-encoding": "identity"}
        try:
            async with (
                asyncio.timeout(_ONE_S),
                self._session.get(self.url + path, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise Unavailable(f"{self.url} answered {answer.status}{_why(answer.status)}", maybe=False)
                return await bounded(answer.content, limit)
        except TimeoutError:
            raise NoAnswer(f"{self.url} did not answer in {_ONE_S:g} s", maybe=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(f"{self.url} could not be asked: {error!r}", maybe=False) from None


def _why(status: int) -> str:
    return " (it sends on to elsewhere: use a trustless gateway)" if 300 <= status < 400 else ""


@dataclass(slots=True)
class _Standing:
    """What is known of a source."""

    latency_s: float = _UNKNOWN_S
    rest_s: float = 0.0
    until: float = 0.0


class Sources:
    """Several sources as one.

    Args:
        sources: Whom to ask; at least one.
        clock: Time.
    """

    def __init__(self, sources: Sequence[Source], clock: Clock) -> None:
        self._standings = {source: _Standing() for source in sources}
        self._clock = clock

    async def block(self, cid: Cid) -> bytes:
        """Return a block's bytes, checked.

        Raises:
            Unavailable: Nobody gives them; the text says what each said.
        """
        if cid.inline:
            return cid.digest
        return await self._race(f"the block {cid}", lambda source: source.block(cid))

    async def record(self, name: IpnsName) -> IpnsRecord:
        """Return the newest record of a pointer that anybody gives and that has not expired.

        Raises:
            Unavailable: Nobody gives one; ``details["absent"]`` says whether everybody answered that there is none.
        """
        tasks = {asyncio.ensure_future(self._timed(source, source.record(name))): source for source in self._standings}
        best: IpnsRecord | None = None
        errors: list[OsirisError] = []
        try:
            until = self._clock.monotonic() + _ALL_S
            left = set(tasks)
            while left and self._clock.monotonic() < until:
                wait = _GRACE_S if best is not None else until - self._clock.monotonic()
                done, left = await asyncio.wait(left, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        record = task.result()
                    except OsirisError as error:
                        errors.append(error)
                        continue
                    if record.expired(self._clock.time_ms()):
                        errors.append(Unavailable(f"{tasks[task].url} gives a record that has expired", maybe=False))
                    elif best is None or record.rank > best.rank:
                        best = record
                if not done:
                    break
        finally:
            await _end(tasks)
        if best is None:
            absent = bool(errors) and not any(isinstance(error, (NoAnswer, RemoteProtocolError)) for error in errors)
            raise Unavailable(
                f"nobody gives the record of /ipns/{name}: {_texts(errors)}",
                fix="check the gateways, or publish the name again",
                maybe=False,
                absent=absent and not any("expired" in error.what for error in errors),
            )
        return best

    async def _race(self, what: str, ask: Callable[[Source], Awaitable[T]]) -> T:
        waiting = self._ordered()
        tasks: dict[asyncio.Future[T], Source] = {}
        errors: list[OsirisError] = []
        try:
            async with asyncio.timeout(_ALL_S):
                while waiting or tasks:
                    if waiting:
                        source = waiting.pop(0)
                        tasks[asyncio.ensure_future(self._timed(source, ask(source)))] = source
                    done, _ = await asyncio.wait(
                        tasks, timeout=HEDGE_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        del tasks[task]
                        try:
                            return task.result()
                        except OsirisError as error:
                            errors.append(error)
        except TimeoutError:
            errors.append(NoAnswer(f"not within {_ALL_S:g} s", maybe=False))
        finally:
            await _end(tasks)
        raise Unavailable(f"nobody gives {what}: {_texts(errors)}", fix="check the gateways", maybe=False)

    def _ordered(self) -> list[Source]:
        now = self._clock.monotonic()
        return sorted(self._standings, key=lambda source: self._order(self._standings[source], now))

    @staticmethod
    def _order(standing: _Standing, now: float) -> tuple[bool, float]:
        return standing.until > now, standing.latency_s

    async def _timed(self, source: Source, answer: Awaitable[T]) -> T:
        standing, begun = self._standings[source], self._clock.monotonic()
        try:
            value = await answer
        except OsirisError as error:
            liar = isinstance(error, RemoteProtocolError)
            standing.rest_s = MAX_REST_S if liar else min(MAX_REST_S, max(REST_S, standing.rest_s * 2))
            standing.until = self._clock.monotonic() + standing.rest_s
            level = logging.WARNING if liar else logging.DEBUG
            _log.log(level, "registry.ipfs.refused", extra={"gateway": source.url, "reason": error.what})
            raise
        standing.latency_s += (self._clock.monotonic() - begun - standing.latency_s) / 4
        standing.rest_s = standing.until = 0.0
        return value


async def _end(tasks: Iterable[asyncio.Future[T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _texts(errors: Sequence[OsirisError]) -> str:
    return "; ".join(error.what for error in errors[:8]) or "nobody answered in time"
