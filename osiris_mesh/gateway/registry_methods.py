"""The control methods of registries, for the command line over the Unix socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import FRAME, pack, unpack
from osiris_mesh.errors import Unavailable, UsageError
from osiris_mesh.function.reference import reference
from osiris_mesh.link import Audience, Request, Router
from osiris_mesh.registry.context import Context, narrow, parse
from osiris_mesh.registry.metering import Key, Row, day_of
from osiris_mesh.registry.providers.endpoint import Discovery
from osiris_mesh.registry.questions import unknown
from osiris_mesh.registry.resolution import Resolution
from osiris_mesh.registry.roster import Entry

__all__ = ["Discoverer", "Registries", "RegistryMethods", "Usages"]

_MAX_TEXT: Final = 1024
_RESOLVE_S: Final = 30.0
_FOUND: Final = 1000


class Registries(Protocol):
    """What the methods need of a node's registries."""

    async def add(self, entry: Entry, *, first: bool = False) -> dict[str, Any]:
        """Add one once it was fetched and is believed."""
        ...

    async def remove(self, name: str) -> None:
        """Forget one."""
        ...

    async def order(self, names: Sequence[str]) -> None:
        """Give precedence in this order."""
        ...

    def listing(self) -> list[dict[str, Any]]:
        """Return what is known of every one."""
        ...

    async def sync(self, name: str = "") -> list[dict[str, Any]]:
        """Fetch one, or all, now."""
        ...

    async def resolve(self, text: str, *, deadline: float, context: Context, explain: bool = False) -> Resolution:
        """Return what a reference comes to."""
        ...

    async def show(self, name: str) -> dict[str, Any]:
        """Return the history of a name."""
        ...

    async def find(self, pattern: str, limit: int) -> list[dict[str, Any]]:
        """Return names that a pattern fits."""
        ...

    def evidence(self, name: str = "") -> list[dict[str, Any]]:
        """Return what was refused."""
        ...

    def file(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a piece of a file of the registry in the ledger."""
        ...

    def paths(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return paths of the registry in the ledger, page by page."""
        ...


class Usages(Protocol):
    """What the methods need of the meter of providers' calls."""

    async def rows(
        self, *, provider: str = "", caller: str = "", since_day: int = 0, until_day: int = ...
    ) -> list[tuple[Key, Row]]:
        """Return sums by day, provider, caller and function."""
        ...


Discoverer = Callable[[str], Awaitable[Discovery]]
"""Asks an endpoint what it offers."""


class RegistryMethods:
    """Registers ``registry.*`` for :attr:`Audience.LOCAL`.

    Args:
        router: The node's methods.
        registries: The node's registries.
        usages: What calls of providers amount to.
        discover: Asks an endpoint what it offers.
        mesh_context: The mesh's own security context, now.
        clock: Time.
    """

    def __init__(
        self,
        router: Router,
        registries: Registries,
        usages: Usages,
        discover: Discoverer,
        mesh_context: Callable[[], Context],
        clock: Clock,
    ) -> None:
        self._registries = registries
        self._usages = usages
        self._discover = discover
        self._mesh_context = mesh_context
        self._clock = clock
        self._methods: dict[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
            "add": self._add,
            "remove": self._remove,
            "order": self._order,
            "list": self._list,
            "sync": self._sync,
            "resolve": self._resolve,
            "show": self._show,
            "find": self._find,
            "evidence": self._evidence,
            "file": self._file,
            "paths": self._paths,
            "usage": self._usage,
            "discover": self._discovered,
        }
        for name, method in self._methods.items():
            router.unary(f"registry.{name}", _packed(method), allow=Audience.LOCAL)

    async def ask(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one of these methods for another face; who may ask is that face's to say.

        Args:
            method: Its name behind ``registry.``.
            body: What it takes.
        """
        return await self._methods[method](body)

    async def _add(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "registry": await self._registries.add(Entry.from_json(body.get("entry")), first=body.get("first") is True)
        }

    async def _remove(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = _text(body, "name")
        await self._registries.remove(name)
        return {"name": name, "removed": True}

    async def _order(self, body: Mapping[str, Any]) -> dict[str, Any]:
        names = body.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError("the request's names are not a list of texts")
        await self._registries.order(names)
        return {"registries": self._registries.listing()}

    async def _list(self, _body: Mapping[str, Any]) -> dict[str, Any]:
        return {"registries": self._registries.listing()}

    async def _sync(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"registries": await self._registries.sync(_text(body, "name", ""))}

    async def _resolve(self, body: Mapping[str, Any]) -> dict[str, Any]:
        context = self._mesh_context()
        given = _text(body, "context", "", most=8192)
        if given:
            context = narrow(context, parse(given))
        timeout = _number(body, "timeout_ms", int(_RESOLVE_S * 1000)) / 1000
        name = _text(body, "name")
        try:
            found = await self._registries.resolve(
                name,
                deadline=self._clock.monotonic() + timeout,
                context=context,
                explain=body.get("explain") is True,
            )
        except Unavailable:
            if self._registries.listing():
                raise
            # Nobody is asked: then what this mesh does not have is nowhere.
            raise unknown(reference(name).name) from None
        return found.to_json()

    async def _show(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._registries.show(_text(body, "name"))

    async def _find(self, body: Mapping[str, Any]) -> dict[str, Any]:
        pattern = _text(body, "pattern", "**")
        return {"names": await self._registries.find(pattern, _number(body, "limit", _FOUND))}

    async def _evidence(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"evidence": self._registries.evidence(_text(body, "name", ""))}

    async def _file(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._registries.file(body)

    async def _paths(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._registries.paths(body)

    async def _usage(self, body: Mapping[str, Any]) -> dict[str, Any]:
        rows = await self._usages.rows(
            provider=_text(body, "provider", ""),
            caller=_text(body, "caller", ""),
            since_day=day_of(_number(body, "since_ms", 0)),
            until_day=day_of(_number(body, "until_ms", self._clock.time_ms())) + 1,
        )
        return {"usage": [asdict(key) | asdict(row) for key, row in rows]}

    async def _discovered(self, body: Mapping[str, Any]) -> dict[str, Any]:
        found = await self._discover(_text(body, "endpoint"))
        return {
            "found": [
                {
                    "reference": each.reference,
                    "name": each.name,
                    "description": each.description,
                    "digest": each.digest,
                    "signature": each.signature,
                    "schema": each.schema,
                }
                for each in found.found
            ],
            "gaps": [{"where": gap.where, "what": gap.what} for gap in found.gaps],
        }


def _packed(
    method: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]],
) -> Callable[[Request], Awaitable[bytes]]:
    async def handle(request: Request) -> bytes:
        body = unpack(request.body, FRAME) if request.body else {}
        if not isinstance(body, dict):
            raise UsageError("the request is not a map")
        return pack(await method(body))

    return handle


def _text(body: Mapping[str, Any], key: str, default: str | None = None, *, most: int = _MAX_TEXT) -> str:
    value = body.get(key, default)
    if type(value) is not str or len(value) > most:
        raise UsageError(f"the request's {key} is not a text of at most {most} letters")
    return value


def _number(body: Mapping[str, Any], key: str, default: int) -> int:
    value = body.get(key, default)
    if type(value) is not int or value < 0:
        raise UsageError(f"the request's {key} is not a number from 0")
    return value
