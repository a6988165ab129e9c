"""What the HTTP face asks the other parts of the controller; everything is called on the loop's thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from osiris_mesh.access.audit import Trail
from osiris_mesh.access.watch import Watch
from osiris_mesh.clock import Clock
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway import control
from osiris_mesh.gateway.building import Job
from osiris_mesh.gateway.events import Reader
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.link import Caller
from osiris_mesh.link.router import Reply
from osiris_mesh.runtime.bundle import Bundle
from osiris_mesh.settings.gateway import GatewaySettings

if TYPE_CHECKING:
    from osiris_mesh.gateway.registry_files import RegistryFiles

__all__ = ["Builds", "Calls", "Events", "Functions", "Hooks", "Parts", "Policy", "Principal", "Registries"]


class Policy(Protocol):
    """Who may do what; :class:`osiris_mesh.access.policy.Policy` is one."""

    def bearer(self, token_text: str) -> Principal | None:
        """Return whose token this is; None if it is nobody's."""
        ...

    def key_of(self, token_text: str) -> KeyPair:
        """Return the key with which entries are signed for the bearer."""
        ...


class Functions(control.Functions, Protocol):
    """The runtime."""

    async def store(self, data: bytes) -> bytes:
        """Put a bundle into the library of this node; return its digest."""
        ...

    async def load(self, digest: bytes) -> bytes:
        """Return a bundle of this node's library; NotFound."""
        ...


class Calls(Protocol):
    """The invoker."""

    def find(self, name: str) -> FunctionSpec:
        """Return the version a name means; NotFound."""
        ...

    def resolve(self, name: str) -> dict[str, Any]:
        """Return what a caller must know of a function."""
        ...

    @property
    def asks_beyond(self) -> bool:
        """Whether functions that this mesh does not have may be found elsewhere."""
        ...

    async def look_up(self, name: str, *, caller: Caller, headers: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a caller must know of a function of this mesh, or of one that only others have."""
        ...

    def begin(
        self,
        name: str,
        body: bytes,
        reply: Reply,
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
        caller: Caller,
        answered: Callable[[Reply, bytes, dict[str, Any] | None, float], None] | None = None,
    ) -> None:
        """Have one call run; see :meth:`osiris_mesh.invoke.invoker.Invoker.begin`."""
        ...


class Builds(Protocol):
    """Builds bundles from sources, a few at a time."""

    async def run(self, job: Job) -> list[Bundle]:
        """Build in a process of its own; Overloaded, LimitExceeded."""
        ...


class Events(Protocol):
    """The bus of events."""

    def subscribe(self, patterns: Sequence[str] = ("*",), after: int | None = None) -> Reader:
        """Read events as they come."""
        ...

    def history(self, patterns: Sequence[str] = ("*",), after: int = 0) -> Sequence[Any]:
        """Return what is remembered after a sequence number, oldest first."""
        ...


class Hooks(Protocol):
    """Webhooks and alert rules."""

    async def test_webhook(self, name: str) -> dict[str, Any]:
        """Send a test delivery now; return ok, status and detail; NotFound."""
        ...

    def webhook_secret(self, name: str, entry: bytes) -> str:
        """Return what a webhook's deliveries are signed with, once, for the hash of the entry that set its URL."""
        ...

    def firing(self) -> Sequence[tuple[str, str]]:
        """Return name and subject of the alert rules that hold now, as this node sees it."""
        ...


class Registries(Protocol):
    """The registries of this node; see :class:`osiris_mesh.gateway.registry_methods.RegistryMethods`."""

    async def ask(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one of the control methods of registries, by its name behind ``registry.``."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one controller.

    Attributes:
        node: The controller itself.
        book: Its ledger.
        functions: Its runtime.
        calls: Its invoker.
        policy: Who may do what.
        events: Its bus.
        hooks: Its webhooks and alert rules.
        overview: Returns nodes and functions with their figures.
        metrics: Returns content type and body of ``/metrics``, with the functions a test, if given, lets through.
        trail: Its audit trail.
        builds: Where functions are built from source.
        in_force: Returns the texts of the mesh's settings that this node goes by.
        registries: What this node's registries know.
        tree: The registry in the mesh's own ledger, as other meshes read it.
        settings: Bounds.
        clock: Time.
        watch: Ends streams whose bearer may not any longer; its ``on_block`` is told of every block.
    """

    node: control.Node
    book: control.Book
    functions: Functions
    calls: Calls
    policy: Policy
    events: Events
    hooks: Hooks
    overview: Callable[[], dict[str, Any]]
    metrics: Callable[[Callable[[str], bool] | None], Awaitable[tuple[str, bytes]]]
    trail: Trail
    builds: Builds
    in_force: Callable[[], Mapping[str, str]]
    registries: Registries
    tree: RegistryFiles
    settings: GatewaySettings
    clock: Clock
    watch: Watch = field(default_factory=Watch)
