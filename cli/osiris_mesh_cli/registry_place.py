"""A registry as a command opens it: without a controller, from its URL or its name in the home's list.

What was seen of a registry is kept in the home, so that an older state is refused on the next run. A runner of a
pipeline begins with an empty home each time: it gives the root's digest with ``--pin``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from osiris_mesh.errors import CheckFailed, Conflict, Denied, NotFound, OsirisError, RemoteProtocolError, UsageError
from osiris_mesh.registry.roster import LEDGER, Entry, Roster
from osiris_mesh_cli.session import Session

if TYPE_CHECKING:
    from osiris_mesh.identity.keys import KeyPair
    from osiris_mesh.registry.domain_fetch import DomainFetch
    from osiris_mesh.registry.key_folder import KeyFolder
    from osiris_mesh.registry.registry import Registry
    from osiris_mesh.registry.trust import Trust

__all__ = [
    "SIGNING_KEY",
    "Opened",
    "Way",
    "asker",
    "denied",
    "entry_of",
    "key_folder",
    "opened",
    "roster_of",
    "run",
    "signers",
]

T = TypeVar("T")

SIGNING_KEY: Final = "OSIRIS_SIGNING_KEY"
"""Environment variable with a key, 64 hexadecimal digits; for pipelines."""
_MAX_ROSTER: Final = 1 << 20
_MAX_KEPT: Final = 1 << 28
_PATIENCE_S: Final = 60.0
_PROVEN_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Way:
    """Which registry is meant, and how it is reached.

    Attributes:
        to: URL, or name in the home's list.
        pin: Digest of one of its roots; empty: the list's, or what is seen first.
        branch: Of a repository.
        ca_file: Certificates that are believed for HTTPS.
        token_file: File with the token for HTTP, or of a Kubo node.
        gateways: Of IPFS.
        api: Kubo's RPC.
    """

    to: str
    pin: str = ""
    branch: str = ""
    ca_file: str = ""
    token_file: str = ""
    gateways: tuple[str, ...] = ()
    api: str = ""

    def options(self) -> tuple[tuple[str, str], ...]:
        """Return what was given, as a registry's entry has it."""
        given = {
            "api": self.api,
            "branch": self.branch,
            "ca_file": str(Path(self.ca_file).expanduser().absolute()) if self.ca_file else "",
            "gateways": ",".join(self.gateways),
            "token_file": str(Path(self.token_file).expanduser().absolute()) if self.token_file else "",
        }
        return tuple(sorted((name, value) for name, value in given.items() if value))


@dataclass(frozen=True, slots=True)
class Opened:
    """A registry that is open.

    Attributes:
        registry: It.
        entry: Where it is.
    """

    registry: Registry
    entry: Entry

    async def look(self, vendors: Iterable[str] = ()) -> None:
        """Fetch what is new and verify it; vendors the root does not name are proven by their domains.

        Args:
            vendors: Whose names matter now; empty or ``_`` for none.

        Raises:
            NotFound: There is no registry.
            CheckFailed: It is not believed.
            Unavailable: It can't be reached.
        """
        from osiris_mesh.registry.layout import CONFIG  # noqa: PLC0415 - only what opens a registry needs it

        await self.registry.tree.refresh()
        if await self.registry.tree.read(CONFIG) is None:
            raise NotFound(
                f"{self.entry.url} holds no registry",
                fix=f"begin one there: osiris-mesh registry init --to {self.entry.url}",
            )
        wanted = sorted({vendor for vendor in vendors if vendor not in {"", "_"}})
        try:
            await self.registry.sync()
        except CheckFailed:
            if not await self._prove(wanted):
                raise
            await self.registry.sync()
        else:
            await self._prove(wanted)

    async def _prove(self, vendors: Sequence[str]) -> bool:
        from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only a vendor without a delegation needs it

        trust = self.registry.trust
        known = trust.root.delegations if trust.root else {}
        proven = False
        for vendor in vendors:
            if vendor in known:
                continue
            with contextlib.suppress(OsirisError):
                keys = (await asker().ask(vendor)).keys
                if keys:
                    trust.accept_domain(vendor, keys, SYSTEM.time_ms() + _PROVEN_MS)
                    proven = True
        return proven


def asker() -> DomainFetch:
    """Return what asks domains for their keys."""
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only a domain's proof needs them
    from osiris_mesh.registry.domain_fetch import DomainFetch, system_texts  # noqa: PLC0415

    return DomainFetch(SYSTEM, system_texts())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Carry out what waits for registries."""
    import asyncio  # noqa: PLC0415 - half of the time a command takes that asks the controller alone

    return asyncio.run(work)


def denied(error: CheckFailed) -> OsirisError:
    """Return what a refused publication is to whoever asked for it: keys that may not are ``Denied``."""
    if error.details.get("reason") != "threshold":
        return error
    return Denied(
        f"the key may not sign this: {error.what}",
        fix=error.fix or "see: osiris-mesh registry keys show",
        **error.details,
    )


def roster_of(session: Session) -> Roster:
    """Return the registries of the home; none if it has no such file.

    Raises:
        UsageError: The file is damaged.
    """
    path = session.home.path / "registries.json"
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_ROSTER)
    except FileNotFoundError:
        return Roster()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from None
    try:
        return Roster.from_text(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", fix="restore it, or remove it and add the registries anew") from None


def entry_of(session: Session, way: Way) -> Entry:
    """Return the registry that is meant, with what the command line says besides.

    Raises:
        NotFound: No registry of that name.
        UsageError: Neither a name nor a URL, or an option is wrong.
    """
    roster = roster_of(session)
    if way.to != LEDGER and ":" not in way.to and not way.to.startswith("/"):
        entry = roster[way.to]
    else:
        given = Entry(_called(way.to), way.to).check()
        entry = next((known for known in roster.entries if known.url == given.url), given)
    options = tuple(sorted({**dict(entry.options), **dict(way.options())}.items()))
    return replace(entry, pin=way.pin or entry.pin, options=options).check()


@asynccontextmanager
async def opened(
    session: Session, way: Way, *, anew: bool = False, checkpoint_key: KeyPair | None = None
) -> AsyncIterator[Opened]:
    """Open a registry; :meth:`Opened.look` is for the caller.

    Args:
        session: The home, and who is told.
        way: Which.
        anew: It is to be begun there: what was known of that place does not count.
        checkpoint_key: Signs checkpoints of what was signed before.

    Raises:
        OsirisError: It can't be opened.
    """
    from osiris_mesh.registry.opening import Surroundings, open_tree  # noqa: PLC0415 - brings the back-end
    from osiris_mesh.registry.registry import Registry  # noqa: PLC0415
    from osiris_mesh.registry.trust import Trust  # noqa: PLC0415

    entry = entry_of(session, way)
    if entry.kind == "ledger":
        from osiris_mesh_cli.registry_ledger import ledger_tree  # noqa: PLC0415 - only the ledger takes a controller

        with ledger_tree(session, entry.name) as book:
            pin = bytes.fromhex(entry.pin) if entry.pin else None
            trust = Trust(pin, first_use=pin is None)
            yield Opened(Registry(book, trust, checkpoint_key=checkpoint_key), entry)
        return
    key = sha256(f"{entry.url}\0{entry.option('branch')}".encode()).hexdigest()[:32]
    folder = session.home.path / "registries" / "cli" / key
    with _held(folder):
        trust = Trust(None, first_use=True) if anew else _trust(folder / "trust")
        believed = trust.pin is not None
        if entry.pin:
            trust.pin = bytes.fromhex(entry.pin)
        tree = open_tree(entry, Surroundings(folder))
        registry = Registry(tree, trust, checkpoint_key=checkpoint_key)
        with contextlib.suppress(RemoteProtocolError, FileNotFoundError):
            # What is gone or damaged there is verified anew.
            registry.restore(_kept(folder / "files"))
        try:
            yield Opened(registry, entry)
        finally:
            await registry.close()
            if trust.changed:
                _keep(folder / "trust", trust.to_wire())
                _keep(folder / "files", registry.to_wire())
        if trust.pin is not None and not believed and not entry.pin and not anew:
            session.say(f"the root {trust.pin.hex()} is believed from now on: seen first; --pin names it beforehand")


def key_folder(session: Session) -> KeyFolder:
    """Return the home's keys for registries."""
    from osiris_mesh.registry.key_folder import KeyFolder  # noqa: PLC0415 - only what signs needs it

    return KeyFolder(session.home.path / "keys" / "registry")


def signers(session: Session, names: Sequence[str], key_file: str = "") -> list[KeyPair]:
    """Return the keys to sign with: those named, or the file's, or the environment's, or the home's user key.

    Raises:
        NotFound: There is none of that name, or none at all.
        UsageError: What is given is no key.
        Conflict: A key's file can be read by others.
    """
    from osiris_mesh.identity.keys import KeyPair  # noqa: PLC0415 - brings NaCl; only what signs needs them
    from osiris_mesh.registry.keyring import text_of_key  # noqa: PLC0415

    if names and key_file:
        raise UsageError("--key and --key-file are both given", fix="give one of them")
    if names:
        folder = key_folder(session)
        return [folder.get(name) for name in dict.fromkeys(names)]
    try:
        if key_file:
            return [KeyPair.load(Path(key_file).expanduser())]
        given = os.environ.get(SIGNING_KEY)
        if given is not None:
            if not given.strip():
                raise UsageError(f"{SIGNING_KEY} is empty", fix="give the pipeline its secret, or unset the variable")
            return [text_of_key(given)]
        return [KeyPair.load(session.home.user_key)]
    except FileNotFoundError:
        if key_file:
            raise NotFound(f"there is no key in {key_file}") from None
        raise NotFound(
            "there is no key to sign with",
            fix=f"make one: osiris-mesh registry keys create NAME, and give it with --key NAME or in {SIGNING_KEY}",
        ) from None
    except OSError as error:
        raise Conflict(f"the key can't be read: {error.strerror}") from None


def _called(url: str) -> str:
    """Return a name for a registry that has none here."""
    last = url.rstrip("/").rpartition("/")[2].removesuffix(".git").lower()
    return re.sub(r"[^a-z0-9._-]", "-", last).lstrip("._-")[:63] or "registry"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other commands of this home from the same registry meanwhile."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Conflict(f"{folder} can't be used: {error.strerror}", fix="name another home with --home") from None
    try:
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Conflict(
                        f"another command of this home has used the registry for over {_PATIENCE_S:g} s",
                        fix="wait for it, or use another home with --home",
                    ) from None
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _trust(path: Path) -> Trust:
    from osiris_mesh.registry.trust import Trust  # noqa: PLC0415 - only what opens a registry needs it

    try:
        return Trust.from_wire(_kept(path), first_use=True)
    except FileNotFoundError:
        return Trust(None, first_use=True)
    except RemoteProtocolError:
        raise Conflict(
            f"what was kept in {path} is damaged, so an older state of the registry would not be noticed",
            fix="remove that file to believe the registry anew",
        ) from None


def _kept(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_KEPT)


def _keep(path: Path, data: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise Conflict(f"{path} can't be written: {error.strerror}", fix="is the disk full?") from None
