"""From a registry's URL to its tree: the one place that knows which back-end needs what.

The back-ends are imported when one of their kind is opened: a command that publishes to Git has no use for IPFS.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.registry.roster import Entry
from osiris_mesh.registry.tree import Tree

if TYPE_CHECKING:
    from osiris_mesh.registry.domain_fetch import Texts

__all__ = ["Surroundings", "open_tree", "secret_of"]

_MAX_SECRET: Final = 8192
_LOCAL_HOSTS: Final = frozenset({"", "localhost"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What opening a tree needs besides its URL.

    Attributes:
        folder: Where clones and blocks are kept; one for each registry, nobody else's. Made when it is needed.
        clock: The time.
        texts: Looks TXT records up, for names of IPNS that are domains; None: the system's servers.
        ledger: Makes the tree in the mesh's own ledger, by the registry's name; None: there is no ledger here.
    """

    folder: Path
    clock: Clock = SYSTEM
    texts: Texts | None = None
    ledger: Callable[[str], Tree] | None = None


def open_tree(entry: Entry, around: Surroundings) -> Tree:
    """Return the tree of a registry; nothing is asked yet.

    Raises:
        UsageError: Its URL or an option of it is wrong, or there is no ledger here.
        Conflict: The file with its token can be read by others, or not at all.
    """
    kind = entry.kind
    if kind == "git":
        return _git(entry, around)
    if kind == "http":
        return _http(entry, around)
    if kind == "ipfs":
        return _ipfs(entry, around)
    if kind == "folder":
        return _folder(entry)
    if around.ledger is None:
        raise UsageError("the registry in the ledger is reached through a controller", fix="osiris-mesh start")
    return around.ledger(entry.name)


def secret_of(path: str) -> str:
    """Return the token a file holds, without white space around it; empty for no file.

    Raises:
        Conflict: It can't be read, others can read it, or it holds no token.
    """
    if not path:
        return ""
    place = Path(path).expanduser()
    try:
        with place.open("rb") as file:
            mode = stat.S_IMODE(place.stat().st_mode)
            data = file.read(_MAX_SECRET + 1)
    except OSError as error:
        raise Conflict(f"the token in {place} can't be read: {error.strerror}", fix="mend --token-file") from None
    if mode & 0o077:
        raise Conflict(f"{place} can be read by others (mode {mode:o})", fix=f"chmod 600 {place}")
    text = data.decode("ascii", "replace").strip()
    if not text or len(data) > _MAX_SECRET or not text.isascii() or not text.isprintable():
        raise Conflict(f"{place} holds no token", fix="write the token into it, and nothing else")
    return text


def _git(entry: Entry, around: Surroundings) -> Tree:
    from osiris_mesh.registry.tree_git import GitTree  # noqa: PLC0415 - see the module

    return GitTree(
        entry.name,
        entry.url,
        _made(around.folder) / "clone",
        branch=entry.option("branch") or "main",
        clock=around.clock,
    )


def _folder(entry: Entry) -> Tree:
    from osiris_mesh.registry.tree_folder import FolderTree  # noqa: PLC0415 - see the module

    if entry.url.startswith("/"):
        return FolderTree(entry.name, Path(entry.url))
    parts = urlsplit(entry.url)
    path = unquote(parts.path)
    if parts.netloc not in _LOCAL_HOSTS or not path.startswith("/") or "\0" in path or parts.query or parts.fragment:
        raise UsageError(f"{entry.url[:80]!r} names no folder of this machine", fix="write file:///srv/registry")
    return FolderTree(entry.name, Path(path))


def _ipfs(entry: Entry, around: Surroundings) -> Tree:
    from osiris_mesh.registry.domain_fetch import system_texts  # noqa: PLC0415 - see the module
    from osiris_mesh.registry.tree_ipfs import IpfsPublisher, TreeIpfs  # noqa: PLC0415

    parts = urlsplit(entry.url)
    pointer = f"/{parts.scheme}/{parts.netloc or parts.path.strip('/')}"
    api = entry.option("api")
    token = secret_of(entry.option("token_file"))
    publisher = IpfsPublisher(api, f"Bearer {token}" if token else "") if api else None
    return TreeIpfs(
        entry.name,
        pointer,
        gateways=[url.strip() for url in entry.option("gateways").split(",") if url.strip()],
        path=_made(around.folder) / "blocks.db",
        clock=around.clock,
        texts=around.texts or system_texts(),
        publisher=publisher,
    )


def _http(entry: Entry, around: Surroundings) -> Tree:
    from osiris_mesh.registry.tree_http import HttpTree  # noqa: PLC0415 - see the module

    ca_file = entry.option("ca_file")
    return HttpTree(
        entry.name,
        entry.url,
        _made(around.folder),
        token=secret_of(entry.option("token_file")),
        ca_file=Path(ca_file).expanduser() if ca_file else None,
    )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Conflict(
            f"{folder} can't be made: {error.strerror}", fix="give a folder that can be written: --home FOLDER"
        ) from None
    return folder
