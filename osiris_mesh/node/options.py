"""What ``init`` and ``join`` were told, saved in the home so that ``start`` needs no arguments."""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.gateway.http.exposure import check_exposure
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.multiaddr import Multiaddr, parse_host_port
from osiris_mesh.settings import PRESETS

__all__ = ["DEFAULT_LISTEN", "OFF", "MeshFile", "NodeOptions", "node_name", "write_private"]

DEFAULT_LISTEN: Final = "0.0.0.0:7411"
OFF: Final = "off"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


def node_name(text: str) -> str:
    """Return ``text`` if it can name a node or a mesh.

    Raises:
        UsageError: It can't.
    """
    if not _NAME.match(text):
        raise UsageError(f"{text!r} can't be a name", fix="use up to 63 letters, digits, _ . and -")
    return text


def _default_name(home: Home) -> str:
    """Name a node after its machine, and after its home too where that is not the user's usual one."""
    parts = [socket.gethostname().partition(".")[0]]
    if home.path != Path.home() / ".osiris":
        parts.append(home.path.name)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts)).strip("_.-")[:63]
    return name or "node"


def write_private(path: Path, text: str) -> None:
    """Replace a file of the home at once, mode 0600, synced."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_map(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError:
        raise Conflict(f"{path} is damaged", fix="restore it from a backup, or join again with a new home") from None
    if not isinstance(value, dict):
        raise Conflict(f"{path} is damaged", fix="restore it from a backup, or join again with a new home")
    return value


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Options of one node.

    Attributes:
        name: Name of the node for people; made from the machine's name and the home's where none is given.
        listen: ``HOST:PORT`` of links, TCP and UDP; port 0 becomes the chosen one once bound.
        http: ``HOST:PORT`` of the HTTP face, or ``off``; empty: 127.0.0.1:7480, or any free port if that one is taken.
            Port 0 becomes the chosen one once bound. Beyond loopback it takes a certificate, or a proxy.
        http_cert: PEM file of the certificate the HTTP face speaks TLS with.
        http_key: PEM file of its key.
        http_proxy: A reverse proxy in front of the HTTP face ends TLS and checks the Host header.
        grpc: ``HOST:PORT`` of the gRPC face; empty: there is none. Beyond loopback it takes the same certificate.
        dns: ``HOST:PORT`` of the DNS server, UDP and TCP, or ``off``; empty: 127.0.0.1:7453, or any free port if that
            one is taken. Port 0 becomes the chosen one once bound.
        mdns: Announce and look for members by mDNS.
        seeds: Multiaddrs of members to try besides the saved ones.
        preset: Settings preset.
        otlp: Base URL of an OpenTelemetry collector (OTLP over HTTP) that spans of calls are sent to; empty for none,
            unless the environment names one.
        region: Label of where this node runs; members with the same are asked about names before any registry.
    """

    name: str = ""
    listen: str = DEFAULT_LISTEN
    http: str = ""
    http_cert: str = ""
    http_key: str = ""
    http_proxy: bool = False
    grpc: str = ""
    dns: str = ""
    mdns: bool = True
    seeds: tuple[str, ...] = ()
    preset: str = "lan"
    otlp: str = ""
    region: str = ""

    def check(self) -> NodeOptions:
        """Return these options.

        Raises:
            UsageError: One of them is wrong; the text says which.
        """
        if self.name:
            node_name(self.name)
        parse_host_port(self.listen)
        self._check_http()
        if self.dns and self.dns != OFF:
            parse_host_port(self.dns)
        for seed in self.seeds:
            Multiaddr.parse(seed)
        if self.otlp and not self.otlp.startswith(("http://", "https://")):
            raise UsageError(f"{self.otlp!r} is no URL of a collector", fix="write it like http://127.0.0.1:4318")
        if self.region and not _NAME.match(self.region):
            raise UsageError(f"{self.region!r} can't be a region", fix="use up to 63 letters, digits, _ . and -")
        if self.preset not in PRESETS:
            raise UsageError(f"no preset is called {self.preset!r}", fix=f"choose one of {', '.join(PRESETS)}")
        return self

    def _check_http(self) -> None:
        if bool(self.http_cert) != bool(self.http_key):
            raise UsageError("TLS takes a certificate and its key", fix="give both --http-cert and --http-key")
        if self.grpc:
            check_exposure(parse_host_port(self.grpc)[0], tls=bool(self.http_cert), proxied=False)
        if self.http == OFF:
            if (self.http_cert and not self.grpc) or self.http_proxy:
                raise UsageError("there is no HTTP to speak TLS, or behind a proxy", fix="leave out --http off")
        elif self.http:
            host, _ = parse_host_port(self.http)
            check_exposure(host, tls=bool(self.http_cert), proxied=self.http_proxy)

    def named(self, home: Home) -> NodeOptions:
        """Return these options with a name, made up if none was given."""
        return self if self.name else replace(self, name=_default_name(home))

    def save(self, home: Home) -> None:
        """Write them to the home."""
        write_private(home.settings_file, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, home: Home) -> NodeOptions:
        """Read them from the home; defaults where nothing was saved.

        Raises:
            Conflict: The file is damaged.
        """
        if not home.settings_file.exists():
            return cls().named(home)
        value = _read_map(home.settings_file)
        known = {item.name for item in fields(cls)}
        try:
            value["seeds"] = tuple(value.get("seeds", ()))
            return cls(**{key: item for key, item in value.items() if key in known}).check().named(home)
        except (TypeError, UsageError) as error:
            raise Conflict(f"{home.settings_file} is damaged: {error}", fix="correct it or join anew") from None


@dataclass(frozen=True, slots=True)
class MeshFile:
    """Which mesh a home belongs to, and how far its membership is settled.

    Attributes:
        mesh_id: 16 bytes.
        name: Name of the mesh for people.
        founder: This node writes the genesis if the ledger is still empty.
        joined_height: Height of the block that admitted this node; until the own ledger is that high, ``members`` are
            trusted as members, because the admitting member named them over a link it had authenticated.
        members: Addresses of members, as last known.
    """

    mesh_id: bytes
    name: str
    founder: bool
    joined_height: int = 0
    members: tuple[str, ...] = ()

    def save(self, home: Home) -> None:
        """Write it to the home."""
        value = asdict(self) | {"mesh_id": self.mesh_id.hex()}
        write_private(home.mesh_file, json.dumps(value, indent=2) + "\n")

    @classmethod
    def load(cls, home: Home) -> MeshFile | None:
        """Read it; None if the home belongs to no mesh.

        Raises:
            Conflict: The file is damaged.
        """
        if not home.mesh_file.exists():
            return None
        value = _read_map(home.mesh_file)
        try:
            return cls(
                mesh_id=bytes.fromhex(value["mesh_id"]),
                name=str(value["name"]),
                founder=bool(value["founder"]),
                joined_height=int(value["joined_height"]),
                members=tuple(str(Multiaddr.parse(member)) for member in value["members"]),
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise Conflict(f"{home.mesh_file} is damaged: {error}", fix="restore it or join anew") from None
