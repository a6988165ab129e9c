"""Three registries with the same names, what is true of them, and every way in which they go wrong.

``near`` is a folder, ``far`` a host behind a relay, ``git`` a repository behind another. A publisher goes on publishing
to a folder of its own; what the registries show is a *state*: the newest, an older one (rollback), one that a stolen
vendor's key forked, one of strangers, or a damaged one.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from aiohttp import web
from aiohttp.web_request import BaseRequest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import OsirisError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_keys, found_root
from osiris_mesh.registry.keys import Delegation
from osiris_mesh.registry.layout import path_of
from osiris_mesh.registry.listing import INDEX, write_index
from osiris_mesh.registry.record import Binding, Provider
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.statement import Statement
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Trust
from tests.registry.chaos.git_host import GitHost
from tests.registry.chaos.relay import Relay

VENDOR = "acme.com"
NAMES = tuple(f"{VENDOR}/image/f{number}" for number in range(10))
KEPT = 30
"""States remembered, for rollbacks."""
State = dict[str, bytes]


def key(number: int) -> KeyPair:
    return KeyPair(number.to_bytes(32, "big"))


VENDOR_KEY, ROOT_KEY, STRANGER = key(1), key(2), key(3)


def root_of(keeper: KeyPair, vendor: KeyPair) -> Statement:
    expires = SYSTEM.time_ms() + 86_400_000
    delegation = Delegation((vendor.public.hex(),))
    return found_root([keeper], threshold=1, expires_ms=expires, delegations={VENDOR: delegation})


class Publisher:
    """Somebody who publishes versions into a folder.

    Attributes:
        digests: Name to the digests of its bindings: what is true.
    """

    def __init__(self, folder: Path, vendor: KeyPair, keeper: KeyPair, root: Statement, word: str) -> None:
        self.folder = folder
        self.digests: dict[str, set[bytes]] = {name: set() for name in NAMES}
        self._vendor = vendor
        self._root = root
        self._keeper = keeper
        self._word = word
        self._count = 0
        self._registry = Registry(FolderTree("main", folder), Trust(root.digest), SYSTEM)

    async def begin(self) -> None:
        keys = [found_keys(VENDOR, [self._vendor])]
        await self._registry.create(Config("0f" * 16, "main"), [self._vendor], root=self._root, vendor_keys=keys)

    async def publish(self, *names: str) -> None:
        self._count += 1
        provider = Provider("acme", "https://acme.test/call")
        said = [
            Binding(
                name,
                f"1.0.{self._count}",
                1,
                digest=sha256(f"{self._word} {name} {self._count}".encode()).hexdigest(),
                providers=(provider,),
                ttl_s=1,
            )
            for name in names
        ]
        await self._registry.publish(said, [self._vendor])
        for name in names:
            found = await self._registry.lookup(name)
            self.digests[name] |= {bound.digest for bound in found.record.versions.values()}

    def state(self) -> State:
        """Return all files."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and not path.relative_to(self.folder).parts[0].startswith(".")
        }


class World:
    """The registries.

    Attributes:
        near: Folder the first one reads.
        url: Address of the second.
        git_url: Address of the third.
        order: Their precedence.
        faults: How often each fault was made.
        seen: Highest sequence of each name that was accepted by the node.
        heads: Highest sequence of a name that the node saw of one registry.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.rng = rng
        self.near = folder / "near"
        self.url = ""
        self.git_url = ""
        self.order = rng.sample(("near", "far", "git"), 3)
        self.faults: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.heads: Callable[[str, str], int] = lambda _registry, _name: 0
        self.pin = root_of(ROOT_KEY, VENDOR_KEY)
        self.truth = Publisher(folder / "main", VENDOR_KEY, ROOT_KEY, self.pin, "true")
        self._folder = folder
        self._states: list[State] = []
        self._strange: State = {}
        self._shown: State = {}
        self._far: State = {}
        self._modes = dict.fromkeys(("near", "far", "git"), "ok")
        self._git = GitHost(folder / "registry.git")
        self._relays: dict[str, Relay] = {}
        self._number = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        await self.truth.begin()
        for _ in range(3):
            await self.truth.publish(*NAMES)
            self._states.append(await asyncio.to_thread(self.truth.state))
        strangers = Publisher(self._folder / "strange", STRANGER, STRANGER, root_of(STRANGER, STRANGER), "strange")
        await strangers.begin()
        for _ in range(6):
            await strangers.publish(*NAMES)
        self._strange = await asyncio.to_thread(strangers.state)
        server = web.Server(self._serve, access_log=None)  # type: ignore[arg-type]
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        self._relays["far"] = Relay(listening.sockets[0].getsockname()[1], self.rng)
        try:
            async with self._relays["far"].open() as port, self._git.serving() as git_port:
                self.url = f"http://127.0.0.1:{port}"
                self._relays["git"] = Relay(git_port, self.rng)
                async with self._relays["git"].open() as relayed:
                    self.git_url = f"http://127.0.0.1:{relayed}/registry.git"
                    for which in self._modes:
                        await self._show(which, "ok")
                    yield self
        finally:
            listening.close()
            await server.shutdown(0.1)
            await listening.wait_closed()

    async def publish(self) -> None:
        """Publish something, and show it where nothing is wrong."""
        await self.truth.publish(*self.rng.sample(NAMES, 2))
        self._states = [*self._states, await asyncio.to_thread(self.truth.state)][-KEPT:]
        for which, mode in self._modes.items():
            if mode in {"ok", "slow"}:
                await self._show(which, mode)

    async def break_one(self) -> None:
        """Let one registry go wrong, or right again."""
        which = self.rng.choice(("near", "far", "git"))
        modes = ["ok", "ok", "dead", "corrupt", "rollback", "fork", "strange"]
        if which in self._relays:
            modes += ["hang", "slow", "cut"]
        mode = self.rng.choice(modes)
        self._modes[which] = mode
        await self._show(which, mode)
        if mode != "ok":
            self.faults[f"{which} {mode}"] = self.faults.get(f"{which} {mode}", 0) + 1

    async def heal(self) -> None:
        """Let everything be right."""
        for which in self._modes:
            self._modes[which] = "ok"
            await self._show(which, "ok")

    async def _show(self, which: str, mode: str) -> None:
        if which in self._relays:
            network = mode if mode in {"dead", "hang", "slow", "corrupt", "cut"} else "ok"
            if which == "git":
                # Half of what is damaged is damaged where it is kept.
                network = "ok" if mode == "corrupt" and self.rng.random() < 0.5 else network
                await self._show_git(mode, damaged=network == "ok")
            else:
                self._far = await self._state(mode, which)
            if self._relays[which].mode != network:
                self._relays[which].set(network)
            return
        state = await self._state(mode, which)
        await asyncio.to_thread(self._write_near, None if mode == "dead" else state)

    async def _show_git(self, mode: str, *, damaged: bool) -> None:
        older = self._git.commits[:-1] or self._git.commits
        match mode:
            case "rollback":
                await self._git.point(self.rng.choice(older)[0])
            case "strange":
                await self._git.fork(self._strange, "")
            case "fork":
                commit, state = self.rng.choice(older)
                await self._git.fork(await self._forked(dict(state), "git"), commit)
            case "corrupt" if damaged:
                await self._git.add(self._damaged(self._states[-1]), good=False)
            case _:
                await self._git.add(self._states[-1])

    def _damaged(self, state: State) -> State:
        bad = dict(state)
        for path in self.rng.sample(sorted(bad), 3):
            at = self.rng.randrange(len(bad[path]))
            bad[path] = bad[path][:at] + bytes([bad[path][at] ^ 1]) + bad[path][at + 1 :]
        return bad

    async def _state(self, mode: str, which: str) -> State:
        newest = self._states[-1]
        match mode:
            case "rollback":
                return self.rng.choice(self._states[:-1] or self._states)
            case "strange":
                return self._strange
            case "fork":
                return await self._forked(self.rng.choice(self._states[:-1] or self._states), which)
            case "corrupt" if which == "near":
                return self._damaged(newest)
            case _:
                return newest

    async def _forked(self, base: State, which: str) -> State:
        """Return what somebody with the vendor's stolen key makes of an older state: other versions in their places."""
        self._number += 1
        folder = self._folder / f"fork{self._number}"
        await asyncio.to_thread(_write, folder, base)
        # Only where this node saw what came next: a key's owner and its thief are the same until somebody saw both.
        # A registry that believed the thief first refuses the owner until the key is revoked: that may happen to the
        # repository, and the two others tell; it must not happen to all.
        seen = self.seen if which == "git" else {name: self.heads(which, name) for name in NAMES}
        names = [name for name in NAMES if _lines(base, name) < seen.get(name, 0)]
        thief = Publisher(folder, VENDOR_KEY, ROOT_KEY, self.pin, f"forked {self._number}")
        if not names:
            return base
        try:
            thief._count = 1000 * self._number
            for _ in range(self.rng.randrange(1, 4)):
                await thief.publish(*names)
            return await asyncio.to_thread(thief.state)
        except OsirisError:
            return base
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)  # noqa: FBT003 - ignore_errors

    def _write_near(self, state: State | None) -> None:
        """Show a state in the folder, all at once: it is a link to one."""
        self._number += 1
        aside = self._folder / f"near{self._number}"
        if state is not None:
            _write(aside, state)
        link = self._folder / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(aside)
        before = self.near.resolve() if self.near.is_symlink() else None
        link.replace(self.near)
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    async def _serve(self, request: BaseRequest) -> web.Response:
        path = request.path.lstrip("/")
        if path == INDEX:
            data: bytes | None = write_index((name, sha256(item).hexdigest()) for name, item in self._far.items())
        else:
            data = self._far.get(path)
        if data is None:
            return web.Response(status=404)
        etag = f'"{sha256(data).hexdigest()[:20]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=data, headers={"ETag": etag})


def _lines(state: State, name: str) -> int:
    return state.get(path_of(FunctionName.parse(name)), b"").count(b"\n")


def _write(folder: Path, state: State) -> None:
    for name, data in state.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
