"""The question to registries: all at once, each with its own limit, one verdict. A shell.

A registry that does not answer is left alone for 5 s, growing to 5 min, and is then asked again. A hanging one holds up
nobody for long: once another gave a usable answer it has ``patience_s`` left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.errors import DeadlineExceeded, InternalError, NotFound, OsirisError, Unavailable
from osiris_mesh.registry.breaker import Breakers, State
from osiris_mesh.registry.federation import Answer, Federation, Known, Verdict, merge
from osiris_mesh.registry.record import Record
from osiris_mesh.settings.registry import RegistrySettings

__all__ = ["Asker", "Source"]

_log = logging.getLogger("osiris.registry")
_UNREACHABLE: Final = (Unavailable, DeadlineExceeded)


class Source(Protocol):
    """One registry, as the resolver needs it. Everything it says is verified; called on the loop."""

    async def ask(self, name: str) -> Answer:
        """Return what it has of a full name; no record: surely nothing. May take any time; it may be cancelled.

        Raises:
            OsirisError: It can't be asked, or what it said is refused.
        """
        ...

    def holds(self, record: Record) -> bool:
        """Say whether a record it gave once holds still: no statement and no signer of it is known to be revoked.

        Must not block. Keys that are not known (nothing was read since the start) count as unchanged.
        """
        ...

    def accepts(self, name: str, lines: bytes) -> bool:
        """Say whether the keys trusted through this registry signed every statement of a history; must not block.

        False where they are not known.
        """
        ...


class Asker:
    """Asks the registries of a federation.

    Args:
        sources: Registries by name.
        federation: Who is asked about what, in which order.
        settings: Times.
        clock: Time.
        known: What was known first of a version.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        federation: Federation,
        settings: RegistrySettings,
        clock: Clock,
        known: Known = lambda _name, _version: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._known = known
        self._sources: Mapping[str, Source] = {}
        self._federation = Federation()
        self._breakers: Breakers[str] = Breakers(
            failures=1, pause=settings.failure_s, longest=settings.failure_max_s, limit=256
        )
        self.use(sources, federation)

    @property
    def federation(self) -> Federation:
        """Who is asked about what."""
        return self._federation

    def use(self, sources: Mapping[str, Source], federation: Federation) -> None:
        """Ask other registries from now on.

        Args:
            sources: Registries by name.
            federation: Names only registries that are among them.
        """
        self._sources, self._federation = dict(sources), federation

    def source(self, registry: str) -> Source | None:
        """Return a registry by name."""
        return self._sources.get(registry)

    def state(self, registry: str) -> State:
        """Say whether a registry is asked."""
        return self._breakers.state(registry, self._clock.monotonic())

    def judge(self, name: str, answers: Sequence[Answer], before: Answer | None) -> Verdict:
        """Return what holds of some answers."""

        def accepts(registry: str, answer: Answer) -> bool:
            source = self._sources.get(registry)
            return source is not None and source.accepts(name, answer.lines)

        order = self._federation.order(name)
        return merge(answers, order, known=self._known, accepts=accepts, before=before)

    async def ask(self, name: str, before: Answer | None) -> tuple[Verdict, bool]:
        """Ask all registries about a full name; return what holds, and whether a registry came back.

        Args:
            name: Full name.
            before: The answer that held before.
        """
        order = [registry for registry in self._federation.order(name) if registry in self._sources]
        now = self._clock.monotonic()
        answers: list[Answer] = []
        asked: dict[asyncio.Task[tuple[Answer, bool]], str] = {}
        for registry in order:
            if self._breakers.trying(registry, now):
                task = asyncio.create_task(self._one(registry, name), name=f"ask {registry} about {name}")
                asked[task] = registry
            else:
                wait = self._breakers.until(registry, now)
                error = Unavailable(f"{registry} did not answer lately and is asked again in {wait:.1f} s")
                answers.append(Answer(registry, error=error))
        came_back = False
        try:
            for answer, back in await self._gather(asked, name):
                answers.append(answer)
                came_back = came_back or back
        finally:
            for task in asked:
                task.cancel()
        return self.judge(name, answers, before), came_back

    async def _gather(
        self, asked: Mapping[asyncio.Task[tuple[Answer, bool]], str], name: str
    ) -> Iterable[tuple[Answer, bool]]:
        """Wait for everyone, but no longer than ``patience_s`` once there is a usable answer."""
        waiting = set(asked)
        given: list[tuple[Answer, bool]] = []
        timeout = self._settings.lookup_s
        while waiting:
            began = self._clock.monotonic()
            done, waiting = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            given += [task.result() for task in done]
            timeout = max(timeout - (self._clock.monotonic() - began), 0.0)
            if any(answer.record is not None for answer, _ in given):
                timeout = min(timeout, self._settings.patience_s)
        for task in waiting:
            registry = asked[task]
            self._down(registry, f"no answer about {name} in time")
            given.append((Answer(registry, error=Unavailable(f"{registry} did not answer in time")), False))
        return given

    async def _one(self, registry: str, name: str) -> tuple[Answer, bool]:
        try:
            answer = await self._sources[registry].ask(name)
        except NotFound:
            answer = Answer(registry)
        except _UNREACHABLE as error:
            self._down(registry, error.what)
            return Answer(registry, error=error), False
        except OsirisError as error:
            # It answers, and what it says of this name is refused: other names are asked of it as before.
            _log.warning("registry_refused", extra={"registry": registry, "function": name, "error": str(error)})
            return Answer(registry, error=error), self._breakers.succeeded(registry)
        except Exception as error:  # noqa: BLE001 - a defect in one back-end must not stop the others
            _log.exception("registry_failed", extra={"registry": registry, "function": name})
            self._down(registry, type(error).__name__)
            return Answer(registry, error=InternalError(f"asking {registry} failed: {type(error).__name__}")), False
        back = self._breakers.succeeded(registry)
        if back:
            _log.info("registry_back", extra={"registry": registry})
        return answer, back

    def _down(self, registry: str, why: str) -> None:
        if self._breakers.failed(registry, self._clock.monotonic()):
            pause = self._breakers.until(registry, self._clock.monotonic())
            _log.warning("registry_down", extra={"registry": registry, "why": why, "again_s": round(pause, 1)})
