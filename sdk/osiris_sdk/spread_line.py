"""A way over several addresses: the fastest first, the next one when one is gone."""

from __future__ import annotations

import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from osiris_mesh.errors import DeadlineExceeded, OsirisError, Unavailable
from osiris_mesh.link.blocking import BlockingLink, BlockingStream
from osiris_sdk.line import Line, LinkLine
from osiris_sdk.spread import Spread
from osiris_sdk.talk import REQUEST_S, Exchange, may_resend

__all__ = ["Lost", "MembersLine", "SpreadLine", "nobody", "with_token"]

T = TypeVar("T")


class Lost(Exception):
    """An address could not be reached, or was lost; the error says whether something may have arrived there."""

    def __init__(self, error: Unavailable) -> None:
        super().__init__(error.what)
        self.error = error


class SpreadLine(Line):
    """Tries addresses in the order a :class:`Spread` gives.

    Args:
        names: What the addresses are called, for texts; those who make it have shuffled them.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self._spread = Spread(len(names), random.Random())  # noqa: S311 - spreads load, guards nothing
        self._turn = threading.Lock()

    def open(self) -> None:
        """Make sure that one of them answers."""
        self.attempt(self._greet, bool)

    @abstractmethod
    def _greet(self, place: int) -> None:
        """Reach one address; raises Lost."""

    @abstractmethod
    def _carry(self, place: int, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry an exchange to one address; raises Lost."""

    def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry one exchange."""

        def carry(place: int) -> bytes:
            exchange.left(deadline, time.monotonic())
            return self._carry(place, exchange, deadline)

        return self.attempt(carry, lambda error: may_resend(exchange, error))

    def attempt(self, action: Callable[[int], T], again: Callable[[Unavailable], object]) -> T:
        """Do something at the first address where it can be done.

        Args:
            action: Does it at one; raises :class:`Lost`.
            again: Says whether it may be done again after it was lost so.

        Raises:
            Unavailable: Nowhere.
        """
        spread = self._spread
        with self._turn:
            order = spread.order(time.monotonic())
        last: Unavailable | None = None
        for place in order:
            with self._turn:
                spread.began(place)
            began = time.monotonic()
            try:
                answer = action(place)
            except Lost as lost:
                with self._turn:
                    spread.failed(place, time.monotonic())
                if not again(lost.error):
                    raise lost.error from None
                last = lost.error
                continue
            except OsirisError:
                self._answered(place, began)
                raise
            except BaseException:
                with self._turn:
                    spread.gave_up(place)
                raise
            self._answered(place, began)
            return answer
        if len(order) == 1 and last is not None:
            raise last
        raise nobody(len(order), last)

    def _answered(self, place: int, began: float) -> None:
        now = time.monotonic()
        with self._turn:
            self._spread.ended(place, now - began, now)

    def forked(self) -> None:
        """Another thread of the parent may have held the lock: it does not exist here."""
        self._turn = threading.Lock()


class MembersLine(SpreadLine):
    """The members a client token names, a link to each that is used.

    Args:
        names: Their addresses.
        connectors: Each makes a link to one of them.
    """

    def __init__(self, names: list[str], connectors: list[Callable[[], BlockingLink]]) -> None:
        super().__init__(names)
        # Each of them hears of forks by itself.
        self._lanes = [LinkLine(connect) for connect in connectors]

    def _link(self, place: int) -> BlockingLink:
        try:
            return self._lanes[place].link()
        except Unavailable as error:
            raise Lost(error) from None
        except DeadlineExceeded as error:
            raise Lost(Unavailable(error.what, maybe=False)) from None

    def _greet(self, place: int) -> None:
        self._link(place)

    def _carry(self, place: int, exchange: Exchange, deadline: float | None) -> bytes:
        link = self._link(place)
        left = exchange.left(deadline, time.monotonic())
        try:
            return link.call(exchange.method, exchange.body, timeout=left, headers=exchange.headers)
        except Unavailable as error:
            # An error of a live link is the controller's own answer.
            if link.closed:
                raise Lost(error) from None
            raise

    def begin(self, exchange: Exchange) -> BlockingStream:
        """Send an exchange whose answer is received later."""

        def send(place: int) -> BlockingStream:
            link = self._link(place)
            left = exchange.left(self._deadline, time.monotonic())
            return link.open(exchange.method, exchange.body, timeout=left, headers=exchange.headers, end=True)

        return self.attempt(send, lambda error: error.details.get("maybe") is False)

    def one(self) -> LinkLine:
        """Return the way to one member that answers."""

        def reach(place: int) -> LinkLine:
            self._link(place)
            return self._lanes[place]

        return self.attempt(reach, bool)

    def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> Iterator[dict[str, Any]]:
        """Yield log lines of one member."""
        return self.one().logs(name, tail=tail, follow=follow, since_ms=since_ms)

    def upload(self, data: bytes, timeout: float = REQUEST_S) -> bytes:
        """Store a bundle at one member."""
        return self.one().upload(data, timeout)

    def close(self) -> None:
        """Close every link."""
        for lane in self._lanes:
            lane.close()


def nobody(count: int, last: OsirisError | None) -> Unavailable:
    """Return the error for when none of ``count`` addresses could be reached."""
    why = f": {last.what}" if last is not None else ""
    maybe = last is not None and last.details.get("maybe") is not False
    return Unavailable(
        f"none of the {count} addresses answers{why}",
        fix="check that one of them runs and can be reached from here, or make a new token",
        maybe=maybe,
    )


def with_token(text: str, timeout: float) -> MembersLine:
    """Return the way to the members a client token names; nothing is sent yet.

    Raises:
        UsageError: Not a client's token, or it expired.
    """
    from osiris_sdk.credentials import Credentials  # noqa: PLC0415 - brings NaCl, which local callers do without

    known = Credentials.from_token(text)
    members = known.shuffled()

    def connector(at: int) -> Callable[[], BlockingLink]:
        return lambda: BlockingLink.tcp(members[at], known.key, known.network_key, known.hello(), timeout=timeout)

    return MembersLine([str(member) for member in members], [connector(at) for at in range(len(members))])
