"""Deployments as talks: without I/O, for :class:`Mesh` and :class:`AsyncMesh`, over a link and over HTTP.

Over a link the controller builds and stores the bundle and says what it became; its specification is signed here, with
the key of the home's user or of the client token, and sent back to be tested and published. Over HTTP one request does
all of it, signed by the gateway with the key that the API token is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import Conflict, Denied, NotFound, RemoteProtocolError, UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh.function.spec import FunctionSpec
from osiris_sdk.signing import Signer
from osiris_sdk.talk import REQUEST_S, Exchange, Talk

__all__ = ["Deployed", "Deploying", "HttpDeploying", "LinkDeploying"]

_BUILD_S: Final = 260.0
_TESTS_S: Final = 660.0


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of one function.

    Attributes:
        name: Full name.
        version: The version that is active now.
        digest: Its bundle's, hexadecimal.
        changed: False: this very code was active already.
        tests: How its tests went: ok, passed, failed, results; None if nothing changed.
        height: Height of the block that records it; None if nothing changed.
        copies: Nodes that had the bundle on disk when it was published; None if nothing changed.
    """

    name: str
    version: str
    digest: str
    changed: bool
    tests: Mapping[str, Any] | None = None
    height: int | None = None
    copies: int | None = None


class Deploying(ABC):
    """Deployments and changes of functions, as talks."""

    @abstractmethod
    def deploy(self, job: Mapping[str, Any]) -> Talk[list[Deployed]]:
        """Build, test and publish what a job describes."""

    @abstractmethod
    def remove(self, name: str, version: str) -> Talk[None]:
        """Remove a function, or one version that is not active."""

    @abstractmethod
    def rollback(self, name: str, to: str) -> Talk[str]:
        """Make an earlier version the active one; the one before if ``to`` is empty. Return which it is."""

    def update(self, job: Mapping[str, Any]) -> Talk[Deployed]:
        """Give the function of the job's name new code.

        Raises:
            NotFound: There is no such function.
        """
        full = qualified(job["name"])
        yield from _describe(full)
        wanted = {**job, "name": full}
        if not job["function"]:
            # In a file with several functions, the one of that name is meant.
            try:
                return (yield from self.deploy({**wanted, "function": full.rpartition("/")[2]}))[0]
            except NotFound:
                pass
        done = yield from self.deploy(wanted)
        return done[0]


class LinkDeploying(Deploying):
    """Over a link: what changes the mesh is signed here.

    Args:
        signer: Returns who signs; reads his key.
    """

    def __init__(self, signer: Callable[[], Signer]) -> None:
        self._signer = signer

    def deploy(self, job: Mapping[str, Any]) -> Talk[list[Deployed]]:
        """Build, sign, test and publish."""
        signer = self._signer()
        answer = _map((yield Exchange("function.build", pack(dict(job)), {}, _BUILD_S, safe=True)), "function.build")
        signer.check(answer.get("mesh_id"))
        rows = answer.get("functions")
        if not isinstance(rows, list) or not rows:
            raise RemoteProtocolError("a source was built into no function")
        found = [_built(row, job) for row in rows]
        done = []
        for spec, changed in found:
            result = Deployed(spec.name, spec.version, spec.digest.hex(), changed)
            done.append((yield from self._publish(signer, spec)) if changed else result)
        return done

    def _publish(self, signer: Signer, spec: FunctionSpec) -> Talk[Deployed]:
        entries = [
            signer.sign("function.publish", [spec.to_wire()]),
            signer.sign("function.activate", [spec.name, spec.version, spec.digest]),
        ]
        body = pack({"digest": spec.digest, "entries": entries})
        answer = _map((yield Exchange("function.deploy", body, {}, _TESTS_S, safe=False)), "function.deploy")
        return _deployed(
            {**answer, "name": spec.name, "version": spec.version, "digest": spec.digest.hex(), "changed": True}
        )

    def remove(self, name: str, version: str) -> Talk[None]:
        """Sign and send the removal."""
        yield from self._change("function.remove", [qualified(name), version])

    def rollback(self, name: str, to: str) -> Talk[str]:
        """Choose, sign and send."""
        full = qualified(name)
        described = yield from _describe(full)
        versions, active = described["versions"], described["active"]
        target = to or _before(full, versions, active)
        if target not in versions:
            raise NotFound(f"there is no {full} {target}", fix=f"there are {', '.join(versions)}")
        yield from self._change("function.activate", [full, target, b""])
        return target

    def _change(self, kind: str, body: Sequence[Any]) -> Talk[None]:
        entry = self._signer().sign(kind, body)
        # Sent again, the same bytes are the same change.
        yield Exchange("function.change", pack({"entries": [entry]}), {}, REQUEST_S, safe=True)


class HttpDeploying(Deploying):
    """Over HTTP: the gateway signs with the bearer's key."""

    def deploy(self, job: Mapping[str, Any]) -> Talk[list[Deployed]]:
        """Have all of it done."""
        exchange = Exchange("function.source", pack(dict(job)), {}, _BUILD_S + _TESTS_S, safe=False)
        rows = _map((yield exchange), "a deployment").get("functions")
        if not isinstance(rows, list) or not rows:
            raise RemoteProtocolError("a source was deployed as no function")
        return [_deployed(row) for row in rows]

    def remove(self, name: str, version: str) -> Talk[None]:
        """Have it removed."""
        body = pack({"name": qualified(name), "version": version})
        yield Exchange("function.remove", body, {}, REQUEST_S, safe=False)

    def rollback(self, name: str, to: str) -> Talk[str]:
        """Have it done, and look which one it is."""
        full = qualified(name)
        yield Exchange("function.rollback", pack({"name": full, "to": to}), {}, REQUEST_S, safe=False)
        return str((yield from _describe(full))["active"])


def _describe(name: str) -> Talk[dict[str, Any]]:
    answer = yield Exchange("function.describe", pack({"name": name}), {}, REQUEST_S, safe=True)
    described = _map(answer, "function.describe")
    if not isinstance(described.get("versions"), list):
        raise RemoteProtocolError("a function was described without its versions")
    return described


def _before(name: str, versions: Sequence[str], active: str | None) -> str:
    place = versions.index(active) if active in versions else len(versions)
    if place == 0:
        raise Conflict(f"{name} has no version before {active}", fix="name one: to=…")
    return versions[place - 1]


def _built(row: Any, job: Mapping[str, Any]) -> tuple[FunctionSpec, bool]:
    """Return a function that was built, and whether there is anything to do.

    Raises:
        Denied: It is another one than was asked for; nothing of it is signed.
    """
    if not isinstance(row, dict) or type(row.get("spec")) is not bytes or type(row.get("changed")) is not bool:
        raise RemoteProtocolError("a source was built into something else than functions")
    try:
        spec = FunctionSpec.from_wire(row["spec"])
    except UsageError as error:
        raise RemoteProtocolError(f"a source was built into something else than functions: {error.what}") from None
    entry = spec.entry.rpartition("::")[2]
    name, version, function = job.get("name"), job.get("version"), str(job["function"]).rpartition("::")[2]
    fits = not name or spec.name in {_full(job), f"{name}/{entry}"}
    if not fits or (version and spec.version != version) or (function and entry != function):
        raise Denied(
            f"the controller built {spec.name} {spec.version}, which was not asked for", fix="ask another node"
        )
    return spec, row["changed"]


def _full(job: Mapping[str, Any]) -> str:
    name, namespace = job["name"], job.get("namespace")
    return qualified(f"{namespace}/{name}" if namespace and "/" not in name else name)


def _deployed(row: Any) -> Deployed:
    try:
        kept = {key: row.get(key) for key in ("tests", "height", "copies")}
        return Deployed(str(row["name"]), str(row["version"]), str(row["digest"]), row["changed"] is True, **kept)
    except (AttributeError, KeyError, TypeError):
        raise RemoteProtocolError("a deployment was answered with something else") from None


def _map(answer: bytes, what: str) -> dict[str, Any]:
    value = unpack(answer, VALUE)
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"the controller answered {what} with no map")
    return value
