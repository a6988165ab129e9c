"""The registries of one node: opened from its roster, kept in step, resolved through."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from osiris_mesh.clock import Clock
from osiris_mesh.errors import (
    CheckFailed,
    Conflict,
    NotFound,
    OsirisError,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_mesh.function.name import FunctionName
from osiris_mesh.gateway.readings import RegistryReading
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.node import allocator
from osiris_mesh.node.options import write_private
from osiris_mesh.node.registry_news import RENEW_MS, RegistryState
from osiris_mesh.registry.asking import Asker
from osiris_mesh.registry.breaker import Breakers
from osiris_mesh.registry.context import FULL, Context
from osiris_mesh.registry.domain import Proof
from osiris_mesh.registry.domain_proofs import Ask, DomainProofs
from osiris_mesh.registry.federation import Federation, Route
from osiris_mesh.registry.ledger_view import file_answer, paths_answer
from osiris_mesh.registry.memory import Memory
from osiris_mesh.registry.opening import Surroundings, open_tree
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.region_peers import Call, RegionPeers
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.registry_source import Keeper, RegistrySource, restore
from osiris_mesh.registry.resolution import LocalFunctions, Resolution
from osiris_mesh.registry.resolver import Resolver
from osiris_mesh.registry.roster import Entry, Roster
from osiris_mesh.registry.selection import Chooser, Key, Standings
from osiris_mesh.registry.tree_ledger import TreeLedger
from osiris_mesh.registry.trust import Trust
from osiris_mesh.settings.registry import Policy, RegistrySettings

if TYPE_CHECKING:
    from osiris_mesh.ledger.ledger import Ledger

__all__ = ["Registries"]

_ADD_S: Final = 120.0
"""A hundred thousand records take half a minute to verify where the machine has other work."""
_MANY: Final = 10_000
_MAX_FOUND: Final = 10_000
_MAX_RECORDS: Final = 256
_RENEW_AGAIN_S: Final = 600.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """One registry that is open.

    Attributes:
        entry: As the roster has it.
        registry: It.
        keeper: Keeps it in step.
        domains: Asks its vendors' domains.
        task: The keeper, running.
        delay: Share of a fifth of the time for renewing that this node waits.
        renew_at: Monotonic seconds before which renewing is not tried again.
    """

    entry: Entry
    registry: Registry
    keeper: Keeper
    domains: DomainProofs
    task: asyncio.Task[None] | None = None
    delay: float = 0.0
    renew_at: float = 0.0

    async def close(self) -> None:
        """End its asking and close its tree."""
        await self.domains.close()
        await self.registry.close()


class Registries:
    """Registries of one node; belongs to the loop.

    Args:
        folder: The node's home.
        ledger: The mesh's own ledger, itself a registry.
        local: The functions of this mesh.
        settings: Times and bounds.
        clock: Time.
        rng: Jitter and turns.
        ask_domain: Asks a vendor's domain which keys are its; None: over DNS and HTTPS.
        near: Members of our region, by peer id.
        call: Asks one of them; None: nobody is asked.
        policy: Which provider is tried first, as the mesh has set it; empty: as ``settings`` say.
        chooser: Puts providers in order where that is ``custom``; None: nobody does.
        tell_names: Tells other members which names have new statements, with their sequences.

    Attributes:
        peers: Members of our region, asked before any registry, and answered.
        resolver: Resolves names through them.
        standings: What is known of providers.
        placements: Where providers answer now.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        local: LocalFunctions,
        *,
        settings: RegistrySettings,
        clock: Clock,
        rng: random.Random,
        ask_domain: Ask | None = None,
        near: Callable[[], Sequence[str]] = tuple,
        call: Call | None = None,
        policy: Callable[[], Policy | Literal[""]] | None = None,
        chooser: Chooser | None = None,
        tell_names: Callable[[dict[str, int]], None] = lambda _names: None,
    ) -> None:
        self._tell_names = tell_names
        self._ask_domain = ask_domain
        self._sources: list[RegistrySource] = []
        self._file = folder / "registries.json"
        self._folder = folder / "registry"
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._roster = Roster()
        self._open: dict[str, _Open] = {}
        self._changing = asyncio.Lock()
        self._running = False
        self._memory = Memory(self._folder / "memory.sqlite3", limit=settings.stored)
        self._asker = Asker({}, Federation(), settings, clock, self._known_first)
        breakers: Breakers[Key] = Breakers(
            failures=settings.breaker_failures,
            pause=settings.breaker_s,
            longest=settings.breaker_max_s,
            limit=settings.providers,
        )
        self.standings = Standings(half_life=settings.half_life_s, breakers=breakers, limit=settings.providers)
        self.placements = Placements(settings.providers)
        self.peers = RegionPeers(
            near if call is not None else tuple,
            call or _nobody,
            lambda: self._sources,
            lambda name: self.resolver.held(name),  # noqa: PLW0108 - made below
            asked=settings.peers_asked,
            clock=clock,
            rng=rng,
        )
        self.resolver = Resolver(
            local,
            self._asker,
            settings=settings,
            standings=self.standings,
            placements=self.placements,
            memory=self._memory,
            neighbours=self.peers,
            policy=policy,
            chooser=chooser,
            clock=clock,
            rng=rng,
        )

    @property
    def roster(self) -> Roster:
        """The registries, in the order of their precedence."""
        return self._roster

    # --- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read the roster and what was seen of each registry; nothing is asked of anybody yet.

        Raises:
            Conflict: The roster is damaged.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._memory.open()
        try:
            if self._file.exists():
                self._roster = Roster.from_text(self._file.read_text("utf-8"))
        except (UsageError, UnicodeDecodeError, OSError) as error:
            raise Conflict(
                f"{self._file} is damaged: {error}", fix="mend it, or move it away and add the registries anew"
            ) from None
        for entry in self._roster.entries:
            try:
                self._open[entry.name] = await self._opened(entry)
            except OsirisError as error:
                # One that can't be opened now (a token's file is gone) must not keep the node from starting.
                _log.error("registry_not_opened", extra={"registry": entry.name, "error": str(error)})
        self._use()

    async def run(self) -> None:
        """Keep every registry in step, until cancelled."""
        self._running = True
        try:
            for each in self._open.values():
                self._keep(each)
            await asyncio.Event().wait()
        finally:
            self._running = False
            await asyncio.gather(*(self._end(each) for each in self._open.values()), return_exceptions=True)

    async def close(self) -> None:
        """Write down what was seen, and close everything."""
        await self.resolver.close()
        for each in self._open.values():
            await each.close()
        await self._memory.close()

    async def _opened(self, entry: Entry) -> _Open:
        around = Surroundings(
            self._folder / "trees" / entry.name,
            clock=self._clock,
            ledger=lambda name: TreeLedger(name, self._ledger),
        )
        tree = open_tree(entry, around)
        kept = await self._memory.trust(entry.name)
        pin = bytes.fromhex(entry.pin) if entry.pin else None
        trust = Trust(pin, first_use=pin is None)
        if kept is not None:
            try:
                trust = Trust.from_wire(kept, first_use=pin is None)
            except RemoteProtocolError as error:
                # What was seen is what refuses an older state: without it nothing is believed until somebody looks.
                raise CheckFailed(
                    f"what was seen of the registry {entry.name} is damaged: {error.what}",
                    fix=f"osiris-mesh registry remove {entry.name}, and add it anew with its pin",
                    reason="memory",
                ) from None
        if pin is not None and trust.pin != pin:
            raise CheckFailed(
                f"the registry {entry.name} was believed by another root than the pinned one",
                fix=f"osiris-mesh registry remove {entry.name}, and add it anew with its pin",
                reason="pin",
            )
        domains = DomainProofs(self._domain, self._clock, lambda: keeper.fetch())  # noqa: PLW0108 - made below
        registry = Registry(tree, trust, self._clock, domains=domains)
        await restore(registry, self._memory)
        keeper = Keeper(
            registry,
            self._memory,
            self.resolver.questions,
            every=self._settings.fetch_s,
            clock=self._clock,
            rng=self._rng,
            tell=self._tell_names,
        )
        return _Open(entry, registry, keeper, domains, delay=self._rng.random())

    async def _domain(self, vendor: str, keys: frozenset[bytes]) -> Proof:
        if self._ask_domain is None:
            from osiris_mesh.registry.domain_fetch import DomainFetch, system_texts  # noqa: PLC0415 - seldom needed

            self._ask_domain = DomainFetch(self._clock, system_texts()).ask
        return await self._ask_domain(vendor, keys)

    def _keep(self, each: _Open) -> None:
        each.task = asyncio.get_running_loop().create_task(each.keeper.run(), name=f"registry {each.entry.name}")

    @staticmethod
    async def _end(each: _Open) -> None:
        if each.task is not None:
            each.task.cancel()
            await asyncio.gather(each.task, return_exceptions=True)
            each.task = None

    def _use(self) -> None:
        """Ask the open registries from now on, in the roster's order."""
        entries = [entry for entry in self._roster.entries if entry.name in self._open]
        sources = {entry.name: RegistrySource(self._open[entry.name].registry, self._clock) for entry in entries}
        self._sources = list(sources.values())
        self._asker.use(sources, federation_of(entries))
        self.resolver.questions.registry_back()

    def _known_first(self, name: str, version: Any) -> bytes | None:
        """Return the digest of the binding that the mesh's own ledger had first of a version."""
        for each in self._open.values():
            if each.entry.kind == "ledger":
                seen = each.registry.known(name)
                bound = seen.versions.get(version) if seen is not None else None
                return bound.digest if bound is not None else None
        return None

    # --- what can be told it ---------------------------------------------------------------------------------------

    async def add(self, entry: Entry, *, first: bool = False) -> dict[str, Any]:
        """Add a registry once it was fetched and is believed; return what is known of it.

        Raises:
            Conflict: Its name means another one.
            CheckFailed: What it says is not believed.
            Unavailable: It can't be reached.
        """
        async with self._changing:
            roster = self._roster.add(entry, first=first)
            if roster is self._roster and entry.name in self._open:
                return self._told(self._open[entry.name])
            made = await self._opened(entry)
            try:
                async with asyncio.timeout(_ADD_S):
                    await made.keeper.once()
            except TimeoutError:
                await made.close()
                raise Unavailable(f"{entry.url} was not fetched in {_ADD_S:g} s", maybe=False) from None
            except BaseException:
                await made.close()
                raise
            if made.registry.names > _MANY:
                # Verifying them took twice the memory that knowing them takes.
                await asyncio.to_thread(allocator.give_back)
            self._roster, self._open[entry.name] = roster, made
            self._save()
            self._use()
            # Who has the last word about a name may be another one now.
            self.resolver.questions.doubt()
            if self._running:
                self._keep(made)
            return self._told(made)

    async def remove(self, name: str) -> None:
        """Forget a registry and what was seen of it.

        Raises:
            NotFound: There is none of that name.
        """
        async with self._changing:
            self._roster = self._roster.remove(name)
            self._save()
            gone = self._open.pop(name, None)
            self._use()
            if gone is not None:
                await self._end(gone)
                await gone.close()
            # Nothing it said is served on, by whatever registry comes under its name next least of all.
            self.resolver.questions.recheck()
            self.resolver.questions.doubt()
            await self._memory.forget_registry(name)
            await asyncio.to_thread(shutil.rmtree, self._folder / "trees" / name, ignore_errors=True)

    async def order(self, names: Sequence[str]) -> None:
        """Give registries precedence in this order, before all others.

        Raises:
            NotFound: One is not there.
        """
        async with self._changing:
            self._roster = self._roster.reorder(names)
            self._save()
            self._use()
            self.resolver.questions.doubt()

    def listing(self) -> list[dict[str, Any]]:
        """Return what is known of every registry, in the order of precedence."""
        return [
            self._told(self._open[entry.name])
            if entry.name in self._open
            else entry.to_json() | {"ok": False, "error": "it can't be opened; see the log"}
            for entry in self._roster.entries
        ]

    async def sync(self, name: str = "") -> list[dict[str, Any]]:
        """Fetch one registry, or all, now; return what is known of each.

        Raises:
            NotFound: There is none of that name.
            OsirisError: The one that was named can't be fetched, or is not believed.
        """
        if name:
            each = self._registry(name)
            await each.keeper.once()
            return [self._told(each)]
        chosen = list(self._open.values())
        ended = await asyncio.gather(*(each.keeper.once() for each in chosen), return_exceptions=True)
        for each, error in zip(chosen, ended, strict=True):
            if isinstance(error, OsirisError):
                each.keeper.failed = str(error)
            elif isinstance(error, BaseException):
                raise error
        return [self._told(each) for each in chosen]

    async def resolve(
        self, text: str, *, deadline: float, context: Context = FULL, explain: bool = False
    ) -> Resolution:
        """Return what a reference comes to; see :meth:`osiris_mesh.registry.resolver.Resolver.resolve`."""
        return await self.resolver.resolve(text, deadline=deadline, context=context, explain=explain)

    async def show(self, name: str) -> dict[str, Any]:
        """Return the history of a name as the first registry that has it gives it, statement by statement.

        Raises:
            NotFound: None has it.
            OsirisError: The first that could not be asked, if none has it.
        """
        full = str(FunctionName.parse(name))
        failure: OsirisError | None = None
        for registry in self._asker.federation.order(full):
            each = self._open[registry]
            try:
                statements = await each.registry.history(full)
            except NotFound:
                continue
            except OsirisError as error:
                failure = failure or error
                continue
            rows = [
                {
                    "statement": statement.digest.hex(),
                    "signed_by": sorted(key.hex() for key in statement.keys),
                    **statement.payload,
                }
                for statement in statements
            ]
            return {"name": full, "source": registry, "statements": rows, "places": self._places(each, full)}
        raise failure or NotFound(f"no registry has {full}", fix="see: osiris-mesh registry find '**'", name=full)

    def _places(self, each: _Open, full: str) -> list[dict[str, Any]]:
        tree = each.registry.tree
        if not isinstance(tree, TreeLedger):
            return []
        from osiris_mesh.registry.layout import path_of  # noqa: PLC0415 - the ledger alone knows places

        return [
            {"height": place.height, "index": place.index, "entry": place.hash.hex()}
            for place in tree.places(path_of(FunctionName.parse(full)))
        ]

    async def find(self, pattern: str, limit: int) -> list[dict[str, Any]]:
        """Return names that a pattern fits, of all registries that can be listed, ascending, each once.

        Raises:
            UsageError: Not a pattern.
        """
        if not 0 < limit <= _MAX_FOUND:
            raise UsageError(f"{limit} is not a number of names from 1 to {_MAX_FOUND}")
        found: dict[str, dict[str, Any]] = {}
        for entry in self._roster.entries:
            each = self._open.get(entry.name)
            if each is None:
                continue
            try:
                rows = await each.registry.list(pattern, limit=limit)
            except (Unavailable, CheckFailed) as error:
                _log.info("registry_not_listed", extra={"registry": entry.name, "error": str(error)})
                continue
            for row in rows:
                found.setdefault(
                    row.name,
                    {"name": row.name, "version": row.version, "description": row.description, "registry": entry.name},
                )
        return [found[name] for name in sorted(found)[:limit]]

    def file(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a piece of a file of the registry in the ledger, to who publishes there."""
        return file_answer(self._ledger.state, body)

    def paths(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return paths of the registry in the ledger with their heads, page by page."""
        return paths_answer(self._ledger.state, body)

    def states(self) -> list[RegistryState]:
        """Return how every registry stands."""
        found: list[RegistryState] = []
        for entry in self._roster.entries:
            each = self._open.get(entry.name)
            if each is None:
                found.append(RegistryState(entry.name, entry.url, "it can't be opened; the log says why"))
                continue
            found.append(
                RegistryState(
                    entry.name,
                    entry.url,
                    each.keeper.failed,
                    each.registry.expires_ms,
                    bool(entry.option("renew_key")),
                    each.registry.trust.evidence,
                )
            )
        return found

    def readings(self) -> dict[str, RegistryReading]:
        """Return what metrics tell of every registry, by name."""
        found: dict[str, RegistryReading] = {}
        for entry in self._roster.entries:
            each = self._open.get(entry.name)
            found[entry.name] = (
                RegistryReading()
                if each is None
                else RegistryReading(
                    each.registry.names, not each.keeper.failed, each.keeper.failures, each.registry.trust.refused
                )
            )
        return found

    def shelf(self, name: str) -> Registry | None:
        """Return the open registry of that name; None: there is none."""
        each = self._open.get(name)
        return each.registry if each is not None else None

    def in_ledger(self) -> Registry | None:
        """Return the registry in the mesh's own ledger; None: it was not added."""
        return next((each.registry for each in self._open.values() if each.entry.kind == "ledger"), None)

    async def renew(self) -> None:
        """Renew the checkpoints that end before long and whose key this node was given; what fails is tried again."""
        now, now_ms = self._clock.monotonic(), self._clock.time_ms()
        for each in list(self._open.values()):
            path, expires_ms = each.entry.option("renew_key"), each.registry.expires_ms
            # Nodes with the same key do not all begin at once; who comes second finds it done.
            due_ms = expires_ms - RENEW_MS + int(RENEW_MS * 0.2 * each.delay)
            if not path or not expires_ms or now_ms < due_ms or now < each.renew_at:
                continue
            each.renew_at = now + _RENEW_AGAIN_S
            try:
                key = await asyncio.to_thread(KeyPair.load, Path(path))
                await each.keeper.once()
                if each.registry.expires_ms == expires_ms:
                    async with asyncio.timeout(_ADD_S):
                        await each.registry.renew([key])
                    _log.info("registry_renewed", extra={"registry": each.entry.name})
            except (OsirisError, OSError) as error:
                _log.warning("registry_not_renewed", extra={"registry": each.entry.name, "error": str(error)})

    async def records_of(self, names: Iterable[str]) -> list[Record]:
        """Return the records of these names and those that were looked at lately, from every registry that answers."""
        found: list[Record] = []
        wanted = list(names)[:_MAX_RECORDS]
        for each in list(self._open.values()):
            found.extend(each.registry.lately())
            for name in wanted:
                try:
                    found.append((await each.registry.lookup(name)).record)
                except NotFound:
                    continue
                except OsirisError:
                    # It can't be asked, or is not believed: other names of it fare no better.
                    break
        return found

    def evidence(self, name: str = "") -> list[dict[str, Any]]:
        """Return what was refused, of one registry or of all.

        Raises:
            NotFound: There is none of that name.
        """
        chosen = [self._registry(name)] if name else list(self._open.values())
        return [
            {
                "registry": each.entry.name,
                "reason": item.reason,
                "subject": item.subject,
                "what": item.what,
                "time_ms": item.time_ms,
                "lines": [line.decode("utf-8", "replace") for line in item.lines],
            }
            for each in chosen
            for item in each.registry.trust.evidence
        ]

    def _registry(self, name: str) -> _Open:
        entry = self._roster[name]
        each = self._open.get(entry.name)
        if each is None:
            raise Unavailable(f"the registry {name} can't be opened; the log says why", maybe=False)
        return each

    def _told(self, each: _Open) -> dict[str, Any]:
        registry, trust = each.registry, each.registry.trust
        return each.entry.to_json() | {
            "id": trust.registry,
            "pin": trust.pin.hex() if trust.pin is not None else "",
            "ok": not each.keeper.failed,
            "error": each.keeper.failed,
            "stale": registry.stale,
            "names": registry.names,
            "checkpoint": trust.checkpoint_sequence,
            "evidence": len(trust.evidence),
        }

    def _save(self) -> None:
        write_private(self._file, self._roster.to_text())


async def _nobody(peer: str, _body: bytes, _deadline: float) -> bytes:
    raise Unavailable(f"{peer} can't be asked from here", maybe=False)


def federation_of(entries: Sequence[Entry]) -> Federation:
    """Return who is asked about what.

    A registry with routes is asked about these names alone, and nobody without that route about them: so a name of a
    private namespace is never asked of a public registry, nor answered by it.
    """
    return Federation(tuple(Route(entry.name, entry.routes) for entry in entries))
