"""The SDK for programs that wait: :class:`Mesh`."""

from __future__ import annotations

import builtins
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from osiris_mesh.codec import VALUE, unpack
from osiris_mesh.errors import Conflict, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.link.blocking import BlockingLink
from osiris_sdk.line import CONNECT_S, Line, LinkLine, Pending
from osiris_sdk.options import Choose, Options
from osiris_sdk.registry import Registry
from osiris_sdk.remote import RemoteFunction
from osiris_sdk.resolved import Resolved
from osiris_sdk.talk import REQUEST_S, Exchange, Talk, Talks, may_resend
from osiris_sdk.target import LocalTarget, Target, TokenTarget, deploying_for, read_target

if TYPE_CHECKING:
    from osiris_sdk.deploying import Deployed, Deploying
    from osiris_sdk.sources import DeployOptions, Source

__all__ = ["Calls", "Mesh"]

_UPLOAD_S: Final = 120.0
T = TypeVar("T")


class Calls:
    """Calls with fixed options; :meth:`Mesh.options` makes one.

    Args:
        line: The way to the controller.
        talks: What is said there.
        options: How calls are made.
    """

    def __init__(self, line: Line, talks: Talks, options: Options) -> None:
        self._line = line
        self._talks = talks
        self._options = options

    def options(
        self,
        *,
        timeout: float | None = None,
        idempotent: bool | None = None,
        version: str | None = None,
        context: str | None = None,
        choose: Choose | None = None,
    ) -> Calls:
        """Return the same with other options; what is not given stays as it is.

        Args:
            timeout: Seconds for a whole call.
            idempotent: A call may be repeated elsewhere if a node dies under it.
            version: Which version of the function: ``1.4.2``, ``1.4``, ``^1.4``, ``~1.4.2``.
            context: Security context that a call, and whatever it calls, is kept to, like
                ``controlled; functions=team-a/*``; it only ever narrows.
            choose: Orders the providers of a function of a registry: gets what is known of each
                (:attr:`Resolved.providers`, at most two seconds old) and returns ids, the first to be asked first;
                those it leaves out come last. Not asked where there is but one.
        """
        now = self._options
        return Calls(
            self._line,
            self._talks,
            Options(
                now.timeout if timeout is None else timeout,
                now.idempotent if idempotent is None else idempotent,
                now.version if version is None else version,
                now.context if context is None else context,
                now.choose if choose is None else choose,
            ),
        )

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function and return its result; every argument goes to the function.

        Args:
            name: ``namespace/name``, ``name`` in the default namespace, or either with ``@version``.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            TypeError: The arguments don't fit its signature; nothing was sent.
            FunctionError: The function raised; type, message and its own traceback are attributes.
            NotFound: No such function or version.
            DeadlineExceeded: Time ran out.
            Overloaded, Denied, LimitExceeded, WorkerDied: As they say.
            Unavailable: The controller can't be reached; ``details["maybe"]`` says whether the call may have run.
        """
        return self._line.run(self._talks.call(name, args, kwargs, self._options), self._options.timeout)

    def call_function(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Do the same as :meth:`call`."""
        return self.call(name, *args, **kwargs)

    def detailed(
        self, name: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Call a function and return its result with the call's details: node, version, warm, elapsed_us."""
        talk = self._talks.detailed(name, tuple(args), dict(kwargs or {}), self._options)
        return self._line.run(talk, self._options.timeout)

    def function(self, name: str) -> RemoteFunction:
        """Return a function of the mesh as a callable with its signature and docstring.

        Raises:
            NotFound: No such function or version.
        """
        full = self._options.full(name)
        return RemoteFunction(self, name, self._line.run(self._talks.resolve(full), self._options.timeout))

    def resolve(self, name: str) -> Resolved:
        """Look a name up afresh: version, digest, signature and limits of what it means now.

        Raises:
            NotFound: No such function or version.
        """
        talk = self._talks.resolve(self._options.full(name), fresh=True)
        return self._line.run(talk, self._options.timeout)

    def map(self, name: str, items: Iterable[Any], *, concurrency: int = 64) -> Iterator[Any]:
        """Call a function once for each item and yield the results in the items' order.

        Items are taken, and calls made, as results are asked for, at most ``concurrency`` ahead.

        Args:
            name: As for :meth:`call`.
            items: Each is the one argument of a call.
            concurrency: Calls under way at a time.

        Raises:
            OSError: Never of its own; what :meth:`call` raises is raised when the result's turn comes.
        """
        if concurrency < 1:
            raise UsageError(f"a concurrency of {concurrency} makes no calls")
        return self._map(name, items, concurrency)

    def _map(self, name: str, items: Iterable[Any], concurrency: int) -> Iterator[Any]:
        options, full = self._options, self._options.full(name)
        resolved = self._line.run(self._talks.resolve(full), options.timeout)
        window: deque[tuple[Any, Exchange, Pending | None]] = deque()
        source = iter(items)
        more = True
        try:
            while True:
                while more and len(window) < concurrency:
                    try:
                        item = next(source)
                    except StopIteration:
                        more = False
                        break
                    exchange = self._talks.prepare(resolved, full, (item,), {}, options)
                    window.append((item, exchange, self._begin(exchange)))
                if not window:
                    return
                item, exchange, stream = window[0]
                result = self._receive(name, item, exchange, stream)
                window.popleft()
                yield result
        finally:
            for _, _, stream in window:
                if stream is not None:
                    stream.reset()

    def _begin(self, exchange: Exchange) -> Pending | None:
        try:
            return self._line.begin(exchange)
        except Unavailable:
            # Nothing was sent; the call is made, and the error met, when its turn comes.
            return None

    def _receive(self, name: str, item: Any, exchange: Exchange, stream: Pending | None) -> Any:
        if stream is not None:
            try:
                answer = stream.receive()
                if answer is None:
                    raise RemoteProtocolError(f"{name} was answered without a result")
                return unpack(answer, VALUE)
            except Conflict as error:
                if error.details.get("reason") != "binding":
                    raise
            except Unavailable as error:
                if not may_resend(exchange, error):
                    raise
        return self.call(name, item)


class Mesh(Calls):
    """A connection to a mesh, through one controller. Threads may share it; a forked child connects anew.

    Make one with :meth:`connect`; inside a function, with :func:`osiris_sdk.current`.
    """

    _target: Target | None = None

    @classmethod
    def connect(
        cls,
        target: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> Mesh:
        """Connect to a controller.

        Args:
            target: None for the node of ``$OSIRIS_HOME`` on this machine; the folder of another home; a client token
                (``osm1…``), with which any member it names is reached from anywhere; or the address of a gateway,
                ``https://HOST:PORT`` (``http://`` to this machine only), or a list of several.
            home: The folder of a home, said by name.
            token: API token (``osa1…``), for a gateway.
            ca: File with the certificates to trust (PEM), for a gateway; those of the system if not given.
            timeout: Seconds to connect, 5 if not given.

        Raises:
            Unavailable: No controller answers there.
            Denied: The mesh does not accept the token (any more).
            UsageError: Not such a target.
        """
        where = read_target(target, home, token, ca)
        line = _line(where, CONNECT_S if timeout is None else timeout)
        try:
            line.open()
        except BaseException:
            line.close()
            raise
        mesh = cls(line, Talks(time.monotonic), Options())
        mesh._target = where
        return mesh

    @classmethod
    def local(cls, *sources: Mapping[str, Callable[..., Any]] | str | os.PathLike[str]) -> Mesh:
        """Return a mesh without a controller, for unit tests: functions run here, in this process.

        Names are resolved, arguments bound and checked, values encoded and decoded, exceptions wrapped, and functions
        call functions through :func:`osiris_sdk.current`, all as in a mesh. There is no sandbox, and a call's time is
        only checked when it is over.

        Args:
            sources: Maps from names to plain functions, or files and folders as they would be deployed; a later one
                takes a name over from an earlier one.

        Raises:
            UsageError: Not a name, or not a function.
            NotFound: No such file, or none that defines a public function.
        """
        from osiris_sdk.local import LocalFunctions, LocalLine  # noqa: PLC0415 - for tests alone

        return cls(LocalLine(LocalFunctions.of(*sources)), Talks(time.monotonic), Options())

    def list(self) -> builtins.list[dict[str, Any]]:
        """Return all functions: name, versions, active, instances."""
        functions: builtins.list[dict[str, Any]] = self.request("function.list")["functions"]
        return functions

    def describe(self, name: str) -> dict[str, Any]:
        """Return all that is known of one function.

        Raises:
            NotFound: No such function.
        """
        return self.request("function.describe", {"name": name})

    def deploy(self, source: Source, **options: Unpack[DeployOptions]) -> builtins.list[Deployed]:
        """Deploy the public functions of a file or folder, or one plain function of a module.

        The controller builds the bundle, locks what it depends on, runs its tests in the sandbox, has a majority of the
        nodes store it, and only then it is published. Deploying the same code again changes nothing.

        Args:
            source: A Python file, a folder, either with ``::function``, or a function (the file it came from is sent).
            options: See :class:`osiris_sdk.DeployOptions`.

        Raises:
            NotFound: No such file, or no such function in it.
            UsageError: It can't be built, or this connection deploys nothing.
            CheckFailed: Its tests failed; the version that was active stays.
            Conflict: That version is there with other code.
            Denied: Who is connected may not.
            OSError: Never of its own.
        """
        from osiris_sdk.sources import read_source  # noqa: PLC0415 - few programs deploy

        job = read_source(source, options)
        return self._carry_out(lambda deploying: deploying.deploy(job))

    def update(self, name: str, source: Source, /, **options: Unpack[DeployOptions]) -> Deployed:
        """Give a function that is there new code; arguments and errors as :meth:`deploy`.

        Raises:
            NotFound: There is no such function.
        """
        from osiris_sdk.sources import read_source  # noqa: PLC0415 - few programs deploy

        job = read_source(source, {**options, "name": name})
        return self._carry_out(lambda deploying: deploying.update(job))

    def remove(self, name: str, *, version: str = "") -> None:
        """Remove a function with all its versions, or one version that is not active.

        Raises:
            NotFound: No such function or version.
        """
        self._carry_out(lambda deploying: deploying.remove(name, version))

    def rollback(self, name: str, *, to: str = "") -> str:
        """Make an earlier version the active one, the one before if none is named, and return which it is.

        Raises:
            NotFound: No such function or version.
            Conflict: There is none before.
        """
        return self._carry_out(lambda deploying: deploying.rollback(name, to))

    def _carry_out(self, talk: Callable[[Deploying], Talk[T]]) -> T:
        deploying = deploying_for(self._target)
        return self._line.one().run(talk(deploying))

    @property
    def registry(self) -> Registry:
        """What the controller knows through its registries."""
        return Registry(self)

    def request(
        self, method: str, body: Mapping[str, Any] | None = None, *, timeout: float = REQUEST_S
    ) -> dict[str, Any]:
        """Ask a control method of the controller; see ARCHITECTURE.md for which there are.

        Args:
            method: For example ``node.status``.
            body: What it takes.
            timeout: Seconds.
        """
        return self._line.run(self._talks.request(method, body or {}, timeout=timeout, safe=False))

    def upload(self, data: bytes, *, timeout: float = _UPLOAD_S) -> bytes:
        """Put a bundle into the controller's library and return its digest, 32 bytes."""
        return self._line.upload(data, timeout)

    def logs(
        self, name: str = "", *, tail: int = 100, follow: bool = False, since_ms: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield lines that functions printed on the node: maps with name, time_ms and text.

        Args:
            name: One function, or all if empty.
            tail: How many old lines at most.
            follow: Go on with new ones, without end.
            since_ms: Not older than this, wall clock in milliseconds.
        """
        return self._line.logs(name, tail=tail, follow=follow, since_ms=since_ms)

    def events(self, *names: str, after: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield events of the mesh as they happen, without end: maps with name, sequence, time_ms and fields.

        Only over HTTP. A stream that breaks goes on where it was.

        Args:
            names: Names or patterns (``node.*``); all if none is given.
            after: Sequence number to begin behind; otherwise only what happens from now on.

        Raises:
            UsageError: Not connected over HTTP, or not a pattern.
        """
        return self._line.events(",".join(names) or "*", after)

    def close(self) -> None:
        """Close the connection."""
        self._line.close()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _line(target: Target, timeout: float) -> Line:
    match target:
        case LocalTarget(path):
            return LinkLine(lambda: BlockingLink.unix(path, timeout=timeout))
        case TokenTarget(text):
            from osiris_sdk.spread_line import with_token  # noqa: PLC0415 - for those who come from afar

            return with_token(text, timeout)
        case _:
            from osiris_sdk.http_line import HttpLine  # noqa: PLC0415 - brings http.client and ssl

            return HttpLine(target, timeout)
