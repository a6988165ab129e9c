"""Whom to connect to: a home's controller, a mesh from afar with a client token, or gateways over HTTP."""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.home import Home
from osiris_sdk.spread import MAX_ADDRESSES

if TYPE_CHECKING:
    from osiris_sdk.deploying import Deploying

__all__ = ["HttpTarget", "LocalTarget", "Origin", "Target", "TokenTarget", "deploying_for", "read_target"]

_MAX_TOKEN = 256
_HOW_TO_GET_ONE = 'give an API token: token="osa1…"; one is made with: osiris-mesh apitoken create'


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """The controller of a home on this machine."""

    socket: Path


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """Any member named in a client token; the repr shows nothing of it."""

    text: str

    def __repr__(self) -> str:
        return "TokenTarget(osm1…)"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one gateway listens."""

    host: str
    port: int
    tls: bool

    @property
    def url(self) -> str:
        """``https://host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Gateways of one mesh.

    Attributes:
        origins: Where they listen.
        token: The bearer's token; the repr shows nothing of it.
        ca: File with the certificates of the authorities to trust; empty: those of the system.
    """

    origins: tuple[Origin, ...]
    token: str = field(repr=False)
    ca: str = ""

    def shuffled(self) -> list[Origin]:
        """Return the gateways in random order, so that clients spread over them; at most as many as are used."""
        return random.sample(self.origins, min(len(self.origins), MAX_ADDRESSES))


Target = LocalTarget | TokenTarget | HttpTarget


def read_target(
    target: str | os.PathLike[str] | Sequence[str] | None,
    home: str | os.PathLike[str] | None,
    token: str | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> Target:
    """Return what ``Mesh.connect`` was told to connect to.

    Args:
        target: None, a home's folder, a client token, or one or several addresses over HTTP.
        home: A home's folder, said by name.
        token: API token, for HTTP.
        ca: File with certificates to trust, for HTTPS.

    Raises:
        UsageError: A combination that means nothing, or an address that is not safe to use.
    """
    if target is not None and home is not None:
        raise UsageError("a target and a home were both given", fix="give one of them")
    where = target if home is None else home
    if isinstance(where, (list, tuple)) or (isinstance(where, str) and where.startswith(("http://", "https://"))):
        urls = [where] if isinstance(where, str) else where
        if not urls:
            raise UsageError("no address was given")
        if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError("a gateway asks for an API token", fix=_HOW_TO_GET_ONE)
        return HttpTarget(tuple(_origin(url) for url in urls), token, os.fspath(ca) if ca else "")
    if token is not None or ca is not None:
        raise UsageError(
            "a token or a certificate belongs to an address over HTTP", fix="give https://HOST:PORT as target"
        )
    if where is None:
        return LocalTarget(Home.default().socket)
    text = os.fspath(where)  # type: ignore[arg-type]
    if text.startswith("osm1"):
        return TokenTarget(text)
    return LocalTarget(Home(Path(text).expanduser()).absolute().socket)


def deploying_for(target: Target | None) -> Deploying:
    """Return how one deploys over a connection.

    Args:
        target: What it is connected to; None: it was not made with ``connect``.

    Raises:
        UsageError: Nothing is deployed over it.
    """
    from osiris_sdk.deploying import HttpDeploying, LinkDeploying  # noqa: PLC0415 - few programs deploy

    match target:
        case HttpTarget():
            return HttpDeploying()
        case LocalTarget(path):
            from osiris_sdk.signing import Signer  # noqa: PLC0415 - brings NaCl

            # The socket stands in the home's folder run.
            return LinkDeploying(lambda: Signer.of_home(Home(path.parent.parent)))
        case TokenTarget(text):
            from osiris_sdk.credentials import Credentials  # noqa: PLC0415 - brings NaCl

            return LinkDeploying(lambda: Credentials.from_token(text).signer())
    raise UsageError("nothing is deployed from inside a function or a local mesh", fix="connect with Mesh.connect()")


def _origin(url: object) -> Origin:
    if not isinstance(url, str):
        raise UsageError(f"{url!r} is not an address over HTTP")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not an address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{url!r} is not an address over HTTP", fix="write https://HOST:PORT")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username or parts.password:
        raise UsageError(f"{url!r} has more than a host and a port", fix="write https://HOST:PORT")
    tls = parts.scheme == "https"
    if not tls and not _is_loopback(parts.hostname):
        raise UsageError(
            f"{url} would send the token and all that is called in the clear", fix="use https://, or a client token"
        )
    return Origin(parts.hostname, port or (443 if tls else 80), tls)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
