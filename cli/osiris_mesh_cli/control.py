"""The way from a command to the controller of its home, and the signing of ledger entries with the home's user key."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from osiris_mesh.errors import Conflict, Denied, NotFound, OsirisError, Unavailable
from osiris_mesh.identity.home import Home

if TYPE_CHECKING:
    from osiris_mesh.identity.keys import KeyPair
    from osiris_mesh.ledger.kinds import Body
    from osiris_sdk import Mesh

__all__ = ["Controller", "refusal"]

_ASK_SECONDS: Final = 15.0
_SUBMIT_SECONDS: Final = 20.0
_BUNDLE_SECONDS: Final = 60.0
# Codes with which the ledger refuses an entry, by what they mean to the one who signed it.
_REFUSALS: Final[dict[str, builtins.type[OsirisError]]] = {
    "author": Denied,
    "role": Denied,
    "grant": Denied,
    "signature": Denied,
    "unknown": NotFound,
}


class Controller:
    """The controller of one home, over its Unix socket.

    Args:
        home: Whose controller.

    Raises:
        Unavailable: No controller answers there.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        if not home.socket.exists():
            raise Unavailable(
                f"no controller runs for {home.path}",
                fix="start it with: osiris-mesh start"
                if home.mesh_file.exists()
                else "begin with: osiris-mesh init, or osiris-mesh join TOKEN; or name another node with --home",
                maybe=False,
            )
        from osiris_sdk import Mesh  # noqa: PLC0415 - commands that ask no controller start without it

        self.mesh: Mesh = Mesh.connect(home=home.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: builtins.type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.mesh.close()

    def ask(self, method: str, body: dict[str, Any] | None = None, *, timeout: float = _ASK_SECONDS) -> dict[str, Any]:
        """Call a control method.

        Raises:
            OsirisError: What the controller answered, or that it does not.
            Unavailable: It is older, or newer, than this command, and has no such method.
        """
        try:
            answer: dict[str, Any] = self.mesh.request(method, body or {}, timeout=timeout)
        except Denied as error:
            if error.details.get("method") != method:
                raise
            raise Unavailable(
                f"the controller of {self.home.path} runs another version than this command: it has no {method}",
                fix="start it anew, with this version: osiris-mesh restart",
                maybe=False,
            ) from None
        return answer

    def messages(self, method: str, body: dict[str, Any], *, timeout: float | None = None) -> Iterator[bytes]:
        """Yield what a streaming control method sends, on a connection of its own.

        Raises:
            OsirisError: What the controller answered, or that it does not.
        """
        from osiris_mesh.codec import pack  # noqa: PLC0415 - the SDK has brought them already
        from osiris_mesh.link import BlockingLink  # noqa: PLC0415

        link = BlockingLink.unix(self.home.socket)
        try:
            stream = link.open(method, pack(body), timeout=timeout, end=True)
            while (message := stream.receive()) is not None:
                yield message
        finally:
            link.close()

    def bundle(self, digest: bytes) -> bytes:
        """Return a bundle from the library.

        Raises:
            NotFound: Neither this node nor one it can reach has it.
        """
        return b"".join(self.messages("library.get", {"digest": digest}, timeout=_BUNDLE_SECONDS))

    def signer(self) -> KeyPair:
        """Return the home's user key.

        Raises:
            NotFound: The home has none.
        """
        from osiris_mesh.identity.keys import KeyPair  # noqa: PLC0415 - brings NaCl; only what signs needs it

        try:
            return KeyPair.load(self.home.user_key)
        except FileNotFoundError:
            raise NotFound(
                f"{self.home.path} has no user key, so nothing can be signed here",
                fix="act from a home whose user may, or put a key into keys/user.key (mode 0600)",
            ) from None

    def mesh_id(self) -> bytes:
        """Return the id of the home's mesh.

        Raises:
            NotFound: The home belongs to none.
        """
        from osiris_mesh.node.options import MeshFile  # noqa: PLC0415 - only what signs needs it

        mesh = MeshFile.load(self.home)
        if mesh is None:
            raise NotFound(f"{self.home.path} belongs to no mesh", fix="see: osiris-mesh help join")
        return mesh.mesh_id

    def sign(self, bodies: Iterable[Body]) -> list[bytes]:
        """Return entries with these bodies, signed by the home's user."""
        from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only what signs needs them
        from osiris_mesh.ledger.entry import Entry  # noqa: PLC0415

        key, mesh_id = self.signer(), self.mesh_id()
        return [Entry.make(body.KIND, body.body(), key, mesh_id, SYSTEM).bytes for body in bodies]

    def submit(self, *bodies: Body, timeout: float = _SUBMIT_SECONDS) -> dict[str, Any]:
        """Sign entries, have the mesh record them and return ``{height, outcomes}``; all of them were accepted.

        Raises:
            Denied, NotFound, Conflict: The ledger refused one of them.
            Unavailable: No quorum.
        """
        return self.record(self.sign(bodies), timeout=timeout)

    def record(self, entries: list[bytes], *, timeout: float = _SUBMIT_SECONDS) -> dict[str, Any]:
        """Have the mesh record entries of :meth:`sign`; as :meth:`submit`."""
        answer = self.ask(
            "ledger.submit",
            {"entries": entries, "timeout_ms": int(timeout * 1000)},
            timeout=timeout + 2,
        )
        for outcome in answer["outcomes"]:
            if not outcome["accepted"]:
                raise refusal(outcome)
        return answer


def refusal(outcome: dict[str, Any]) -> OsirisError:
    """Return the error for an entry the ledger refused."""
    code, reason = str(outcome.get("code", "")), str(outcome.get("reason", "")) or "the ledger refused it"
    kind: Callable[..., OsirisError] = _REFUSALS.get(code, Conflict)
    fix = ""
    if kind is Denied:
        fix = "ask an administrator of the mesh for the role it takes: osiris-mesh user update NAME --role ROLE"
    if code == "grant":
        fix = "nobody gives, or takes away, more than he holds: leave that grant out, or let somebody sign who holds it"
    return kind(reason, fix=fix, refusal=code)
