"""The control methods: what the command line asks the controller of its home, over the Unix socket.

Every method is registered for :attr:`Audience.LOCAL` alone unless the table in ARCHITECTURE.md says otherwise. Bodies
and answers are packed maps. What changes the mesh is an entry the caller has signed with his own key: the controller
carries it, and every node checks it again when it is applied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from osiris_mesh.access.audit import Trail, read_filter
from osiris_mesh.codec import FRAME, pack, unpack
from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway.deployment import Copies
from osiris_mesh.gateway.views import (
    api_token_view,
    role_views,
    token_view,
    user_view,
)
from osiris_mesh.ledger.entry import MAX_ENTRY
from osiris_mesh.ledger.outcome import Receipt
from osiris_mesh.ledger.search import Search
from osiris_mesh.ledger.state import State
from osiris_mesh.ledger.views import Shown
from osiris_mesh.link import Audience, Request, Router, Stream

__all__ = ["Book", "Control", "Functions", "Node", "entries_of", "field_of", "receipt_of"]

_ENTRIES: Final = 64
_PROPOSE_SECONDS: Final = 10.0
_LOG_LIMIT: Final = 1000


class Node(Protocol):
    """The controller itself, as its control methods see it; every method runs on the loop."""

    def status(self) -> dict[str, Any]:
        """Return the map of ``status``."""
        ...

    def contact(self) -> dict[str, Any]:
        """Return mesh id, name, network key and addresses of members: what a token is made of."""
        ...

    async def diagnose(self) -> list[dict[str, Any]]:
        """Return the checks of ``doctor``."""
        ...

    async def sync(self) -> dict[str, Any]:
        """Catch up with the mesh now; return height and tip."""
        ...

    def request_stop(self) -> dict[str, Any]:
        """Begin to stop; return peer id and state."""
        ...

    async def drain(self) -> dict[str, Any]:
        """Take no more work and finish what there is; return peer id and state."""
        ...

    async def leave(self, *, force: bool = False) -> dict[str, Any]:
        """Leave the mesh, then begin to stop; ``force``: even if the mesh can't be told. Return peer id and state."""
        ...


class Book(Protocol):
    """What the control methods need of the ledger."""

    @property
    def state(self) -> State:
        """What the entries amount to."""
        ...

    @property
    def search(self) -> Search:
        """Finds blocks by what they contain."""
        ...

    async def propose(self, entries: Sequence[bytes], *, timeout: float) -> Receipt:
        """Put entries into the ledger."""
        ...

    def log(self, start: int, limit: int, shown: Shown | None = None) -> list[dict[str, Any]]:
        """Return blocks as maps, ascending from height ``start``; from 0, the last ones; what is not shown withheld."""
        ...

    def show(self, height: int, shown: Shown | None = None) -> dict[str, Any]:
        """Return one block with its entries as a map; what is not shown withheld."""
        ...

    async def verify(self) -> dict[str, Any]:
        """Check the whole stored chain; return valid, height, tip, entries, problems."""
        ...


class Functions(Protocol):
    """What the control methods need of the runtime."""

    async def test(self, digest: bytes, context: str = "") -> dict[str, Any]:
        """Run a bundle's deploy-time tests here, in a security context; return ``ok`` and ``results``."""
        ...

    def check_bundle(self, spec: FunctionSpec) -> None:
        """Check that the bundle is in the library and is what ``spec`` says of it."""
        ...

    async def spread(self, digest: bytes) -> Copies:
        """Have a majority of the nodes that live store a bundle; Unavailable."""
        ...

    def instances(self, name: str) -> dict[str, int]:
        """Return running instances by peer id."""
        ...

    def local(self, name: str) -> dict[str, Any]:
        """Return what this node knows of a function it runs."""
        ...

    async def logs(self, name: str, stream: Stream, *, tail: int, follow: bool, since_ms: int) -> None:
        """Send lines of a function's output, as packed maps, until there are no more."""
        ...

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """Return samples of one function, or of all and the node itself."""
        ...


def field_of(body: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """Return a field of a request; UsageError if it is of another kind."""
    value = body.get(name, default)
    if type(value) is not kind:
        raise UsageError(f"the request's {name} is not a {kind.__name__}")
    return value


class Control:
    """Registers the control methods and answers them.

    Args:
        router: The node's methods.
        node: The controller.
        book: Its ledger.
        functions: Its runtime.
    """

    def __init__(self, router: Router, node: Node, book: Book, functions: Functions) -> None:
        self._node = node
        self._book = book
        self._functions = functions
        self._trail = Trail(book)
        self._router = router
        methods: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "node.status": self._status,
            "node.methods": self._methods,
            "node.doctor": self._doctor,
            "node.stop": self._stop,
            "node.drain": self._drain,
            "node.leave": self._leave,
            "node.sync": self._sync,
            "node.metrics": self._metrics,
            "mesh.contact": self._contact,
            "token.list": self._tokens,
            "apitoken.list": self._api_tokens,
            "user.list": self._users,
            "role.list": self._roles,
            "audit.list": self._audit,
            "config.list": self._config,
            "ledger.submit": self._submit,
            "ledger.log": self._log,
            "ledger.show": self._show,
            "ledger.verify": self._verify,
        }
        for name, method in methods.items():
            router.unary(name, _mapped(method), allow=Audience.LOCAL)

    # The node.

    async def _status(self, _body: dict[str, Any]) -> dict[str, Any]:
        return self._node.status()

    async def _methods(self, _body: dict[str, Any]) -> dict[str, Any]:
        """Return every method this node serves, and to whom: what the test of open doors goes through."""
        return {
            "methods": {
                name: [str(one.name).lower() for one in audience] for name, audience in self._router.methods().items()
            }
        }

    async def _doctor(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {"checks": await self._node.diagnose()}

    async def _stop(self, _body: dict[str, Any]) -> dict[str, Any]:
        return self._node.request_stop()

    async def _drain(self, _body: dict[str, Any]) -> dict[str, Any]:
        return await self._node.drain()

    async def _leave(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._node.leave(force=field_of(body, "force", bool, default=False))

    async def _sync(self, _body: dict[str, Any]) -> dict[str, Any]:
        return await self._node.sync()

    async def _contact(self, _body: dict[str, Any]) -> dict[str, Any]:
        return self._node.contact()

    async def _metrics(self, body: dict[str, Any]) -> dict[str, Any]:
        name = field_of(body, "name", str, "")
        if name:
            name = qualified(name)
            self._record(name)
        return {"samples": self._functions.metrics(name)}

    # The ledger.

    async def _tokens(self, _body: dict[str, Any]) -> dict[str, Any]:
        state = self._book.state
        return {"tokens": [token_view(token, state.users.get(token.issuer)) for token in state.tokens.values()]}

    async def _users(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {"users": [user_view(user) for user in self._book.state.users.values()]}

    async def _roles(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {"roles": role_views(self._book.state)}

    async def _api_tokens(self, _body: dict[str, Any]) -> dict[str, Any]:
        state = self._book.state
        return {"tokens": [api_token_view(token, state.users.get(token.owner)) for token in state.api_tokens.values()]}

    async def _audit(self, body: dict[str, Any]) -> dict[str, Any]:
        page = await self._trail.page(read_filter(body))
        return {"events": list(page.events), "next": page.next}

    async def _config(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {"settings": dict(self._book.state.settings)}

    async def _submit(self, body: dict[str, Any]) -> dict[str, Any]:
        entries = entries_of(body)
        timeout = min(max(field_of(body, "timeout_ms", int, int(_PROPOSE_SECONDS * 1000)), 1), 60_000) / 1000
        return receipt_of(await self._book.propose(entries, timeout=timeout))

    async def _log(self, body: dict[str, Any]) -> dict[str, Any]:
        start = field_of(body, "from", int, 0)
        limit = min(max(field_of(body, "limit", int, 20), 1), _LOG_LIMIT)
        return {"blocks": self._book.log(start, limit)}

    async def _show(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._book.show(field_of(body, "height", int))

    async def _verify(self, _body: dict[str, Any]) -> dict[str, Any]:
        return await self._book.verify()

    def _record(self, name: str) -> Any:
        record = self._book.state.functions.get(name)
        if record is None:
            raise NotFound(f"there is no function {name}", fix="see what there is with: osiris-mesh list")
        return record


def _mapped(method: Callable[[dict[str, Any]], Awaitable[Any]]) -> Callable[[Request], Awaitable[bytes]]:
    async def handler(request: Request) -> bytes:
        body = unpack(request.body, FRAME) if request.body else {}
        if not isinstance(body, dict):
            raise UsageError("the request is not a map")
        return pack(await method(body))

    return handler


def entries_of(body: Mapping[str, Any]) -> list[bytes]:
    """Return the entries of a request; UsageError if there are none, too many, or one is too large."""
    entries = body.get("entries")
    if not isinstance(entries, list) or not 1 <= len(entries) <= _ENTRIES:
        raise UsageError(f"a request carries 1 to {_ENTRIES} entries")
    for entry in entries:
        if type(entry) is not bytes or len(entry) > MAX_ENTRY:
            raise UsageError(f"an entry is at most {MAX_ENTRY} bytes")
    return entries


def receipt_of(receipt: Receipt) -> dict[str, Any]:
    """Return what became of entries, as a map."""
    return {
        "height": receipt.height,
        "outcomes": [
            {"accepted": outcome.accepted, "reason": outcome.reason, "code": outcome.code}
            for outcome in receipt.outcomes
        ],
    }
