"""A mesh without a controller, for unit tests: the same talks, answered by functions of this process."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    FunctionError,
    LimitExceeded,
    NotFound,
    OsirisError,
    UsageError,
)
from osiris_mesh.function.name import qualified
from osiris_mesh.function.signature import Parameter, Signature, binding_of
from osiris_sdk.inside import serving_in
from osiris_sdk.line import Line, refuse_on_a_loop, running_loop
from osiris_sdk.marking import marks_of
from osiris_sdk.talk import Exchange, check_keys

if TYPE_CHECKING:
    from osiris_sdk.async_calls import AsyncLine

__all__ = ["LocalFunction", "LocalFunctions", "LocalLine", "Prepared"]

Source = Mapping[str, Callable[..., Any]] | str | os.PathLike[str]

_TIMEOUT_MS: Final = 60_000
_MAX_DEPTH: Final = 16
_NO_ENTRY: Final = frozenset({"setup.py", "conftest.py", "noxfile.py"})
_HERE: Final = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """One function of the table.

    Attributes:
        name: Full name.
        call: The plain function.
        signature: What arguments are bound against.
        description: First paragraph of its docstring.
        timeout_ms: Its limit.
        idempotent: As marked.
    """

    name: str
    call: Callable[..., Any]
    signature: Signature
    description: str
    timeout_ms: int
    idempotent: bool

    @classmethod
    def of(cls, name: str, plain: Callable[..., Any]) -> LocalFunction:
        """Take a plain function up.

        Raises:
            UsageError: Not a name, or nothing to call.
        """
        if not callable(plain):
            raise UsageError(f"{name} is {plain!r}, not a function")
        marks = marks_of(plain)
        timeout_ms = _TIMEOUT_MS if marks.timeout is None else max(int(marks.timeout * 1000), 1)
        text = inspect.cleandoc(getattr(plain, "__doc__", None) or "")
        description = " ".join(text.split("\n\n")[0].split())
        return cls(qualified(name), plain, signature_of(plain), description, timeout_ms, marks.idempotent)

    def facts(self) -> dict[str, Any]:
        """Return what a controller answers to ``resolve``."""
        wire = self.signature.to_wire()
        return {
            "name": self.name,
            "version": "0.0.0",
            "digest": bytes(32),
            "signature": wire,
            "binding": binding_of(wire),
            "description": self.description,
            "timeout_ms": self.timeout_ms,
            "idempotent": self.idempotent,
        }

    def row(self) -> dict[str, Any]:
        """Return what a controller answers to ``list`` and ``describe``, as far as there is such a thing here."""
        return {
            "name": self.name,
            "versions": ["0.0.0"],
            "active": "0.0.0",
            "instances": 1,
            "description": self.description,
            "call": self.signature.text(),
            "idempotent": self.idempotent,
        }


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that is ready to run.

    Attributes:
        function: What is called.
        args: Decoded from what was sent, as a worker gets them.
        kwargs: The same.
        depth: How deep functions call functions.
        ends: When it must be over, monotonic seconds.
        details: The answer is to say more than the result.
    """

    function: LocalFunction
    args: list[Any]
    kwargs: dict[str, Any]
    depth: int
    ends: float
    details: bool


class LocalFunctions:
    """The functions of one local mesh, by full name."""

    def __init__(self) -> None:
        self._known: dict[str, LocalFunction] = {}

    @classmethod
    def of(cls, *sources: Source) -> LocalFunctions:
        """Take functions up; arguments and errors as :meth:`osiris_sdk.Mesh.local`."""
        table = cls()
        for source in sources:
            items = source.items() if isinstance(source, Mapping) else functions_of(Path(source))
            for name, plain in items:
                function = LocalFunction.of(name, plain)
                table._known[function.name] = function
        return table

    def find(self, name: str) -> LocalFunction:
        """Return a function by its name; which version is asked for does not matter here.

        Raises:
            NotFound: There is none.
        """
        full = qualified(name.partition("@")[0])
        found = self._known.get(full)
        if found is None:
            names = ", ".join(sorted(self._known)) or "none at all"
            raise NotFound(f"there is no function {full}", fix=f"here are: {names}", name=full)
        return found

    def answer(self, exchange: Exchange) -> bytes:
        """Answer everything but a call.

        Raises:
            UsageError: It takes a controller.
        """
        body = unpack(exchange.body, VALUE) if exchange.body else {}
        match exchange.method:
            case "resolve":
                return pack(self.find(body["name"]).facts())
            case "function.list":
                return pack({"functions": [self._known[name].row() for name in sorted(self._known)]})
            case "function.describe":
                return pack(self.find(body["name"]).row())
        raise UsageError(f"{exchange.method} takes a controller, and a local mesh has none", fix="use Mesh.connect()")

    def prepare(self, exchange: Exchange, deadline: float | None) -> Prepared:
        """Check a call as a controller does before it runs.

        Raises:
            NotFound, Conflict, LimitExceeded: As from a controller.
        """
        function = self.find(exchange.headers["name"])
        facts = function.facts()
        if exchange.headers["binding"] != facts["binding"]:
            raise Conflict(f"the signature of {function.name} changed", reason="binding", resolved=facts)
        depth = exchange.headers.get("depth", 0)
        if depth > _MAX_DEPTH:
            raise LimitExceeded(f"functions call functions more than {_MAX_DEPTH} deep", limit="depth")
        args, kwargs = unpack(exchange.body, VALUE)
        now = time.monotonic()
        ends = now + min(exchange.left(deadline, now), function.timeout_ms / 1000)
        return Prepared(function, args, kwargs, depth, ends, bool(exchange.headers.get("details")))


class LocalLine(Line):
    """Answers exchanges in the thread that asks.

    Args:
        functions: What there is.
        deadline: Monotonic seconds no exchange goes beyond.
        inside: It is a function that asks.
        around: The event loop that runs around the outermost call, in an asynchronous test; a function may block that.
    """

    def __init__(
        self, functions: LocalFunctions, deadline: float | None = None, *, inside: bool = False, around: Any = None
    ) -> None:
        super().__init__(deadline)
        self._functions = functions
        self._inside = inside
        self._around = around

    def line(self, deadline: float | None) -> Line:
        """Return the way a function's own calls take."""
        return LocalLine(
            self._functions, deadline, inside=True, around=self._around if self._inside else running_loop()
        )

    def async_line(self, deadline: float | None) -> AsyncLine:
        """Return the same for calls that are awaited."""
        from osiris_sdk.async_local import AsyncLocalLine  # noqa: PLC0415 - brings asyncio

        return AsyncLocalLine(self._functions, deadline)

    def open(self) -> None:
        """Nothing is needed."""

    def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Answer one exchange."""
        if self._inside and running_loop() is not self._around:
            refuse_on_a_loop()
        if exchange.method != "call":
            return self._functions.answer(exchange)
        call = self._functions.prepare(exchange, deadline)
        began = time.monotonic()
        inside = self if self._inside else LocalLine(self._functions, inside=True, around=running_loop())
        try:
            with serving_in(inside, depth=call.depth, deadline=call.ends):
                result = call.function.call(*call.args, **call.kwargs)
                if inspect.iscoroutine(result):
                    result = _wait_for(result)
        except (Exception, SystemExit) as error:
            raise raised(call.function.name, error) from error
        return answered(call, result, time.monotonic() - began)

    def begin(self, exchange: Exchange) -> _Later:
        """Answer an exchange when its turn comes."""
        return _Later(lambda: self.exchange(exchange, self._deadline))

    def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> Iterator[dict[str, Any]]:
        """Yield nothing: what functions print is printed."""
        del name, tail, follow, since_ms
        return iter(())

    def upload(self, data: bytes, timeout: float) -> bytes:
        """Refuse."""
        del data, timeout
        raise UsageError("a bundle takes a controller, and a local mesh has none", fix="use Mesh.connect()")

    def close(self) -> None:
        """Nothing is open."""

    def forked(self) -> None:
        """Nothing is open."""


class _Later:
    """An exchange that is answered when the answer is wanted."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer

    def receive(self) -> bytes | None:
        """Return the answer."""
        return self._answer()

    def reset(self) -> None:
        """Nothing has begun."""


def _wait_for(coroutine: Any) -> Any:
    """Run an ``async def`` function's call to its end, on a loop of its own."""
    import asyncio  # noqa: PLC0415 - most functions never need it
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - the same
    from contextvars import copy_context  # noqa: PLC0415 - the same

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # The test itself runs on a loop, which can't run another inside.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()


def answered(call: Prepared, result: Any, seconds: float) -> bytes:
    """Return the answer to a call from its result, as a worker would.

    Raises:
        FunctionError: The result can't be sent.
        DeadlineExceeded: It took too long.
    """
    name = call.function.name
    if time.monotonic() > call.ends:
        raise DeadlineExceeded(f"{name} was not done in its time")
    try:
        packed = pack(result)
        check_keys(name, [result])
        unpack(packed, VALUE)
    except (UsageError, TypeError) as error:
        message = f"the result can't be sent: {getattr(error, 'what', error)}"
        raise FunctionError(
            f"{name} raised TypeError: {message}",
            fix="return JSON types or bytes",
            type="TypeError",
            message=message,
            traceback="",
        ) from None
    if not call.details:
        return packed
    return pack([{"node": "local", "version": "0.0.0", "warm": True, "elapsed_us": int(seconds * 1e6)}, packed])


def raised(name: str, error: BaseException) -> OsirisError:
    """Return what the caller gets for an exception inside a function."""
    kind = type(error)
    own = kind.__module__ in {"builtins", "__main__"}
    type_name = kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}"
    whole = traceback.TracebackException.from_exception(error)
    whole.stack = traceback.StackSummary.from_list(
        [frame for frame in whole.stack if not frame.filename.startswith(_HERE)]
    )
    if isinstance(error, FunctionError) and error.type:
        return error.let_through(name, "".join(whole.format(chain=False)))
    message = str(error)
    return FunctionError(
        f"{name} raised {type_name}: {message}" if message else f"{name} raised {type_name}",
        type=type_name,
        message=message,
        traceback="".join(whole.format(chain=False)),
        path=[name],
    )


# --- plain functions -------------------------------------------------------------------------------------------------


def signature_of(plain: Callable[..., Any]) -> Signature:
    """Return a function's signature as a deployment would read it: from its source, else from the object."""
    name = getattr(plain, "__name__", "function")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    except (OSError, TypeError, SyntaxError):
        tree = ast.Module([], [])
    if tree.body and isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef):
        return Signature.from_ast(tree.body[0])
    empty = inspect.Parameter.empty
    parameters = tuple(
        Parameter(item.name, int(item.kind), item.default is not empty, _text(item.annotation))
        for item in inspect.signature(plain).parameters.values()
    )
    return Signature(parameters, _text(inspect.signature(plain).return_annotation), name)


def _text(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, str):
        return annotation
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def functions_of(path: Path) -> list[tuple[str, Callable[..., Any]]]:
    """Import a file, or the files of a folder that define functions, and return their public functions by name.

    Raises:
        NotFound: There is no such file, or no public function in it.
    """
    path = path.expanduser().resolve()
    if path.is_dir():
        space = path.name
        top = sorted(file for file in path.glob("*.py") if _may_define(file.name))
        packages = [*path.glob("*/__init__.py"), *path.glob("src/*/__init__.py")]
        files = top or sorted(packages)
        roots = [path, path / "src"]
    else:
        space, files, roots = path.parent.name, [path], [path.parent]
    if not all(file.is_file() for file in files):
        raise NotFound(f"there is no file or folder {path}")
    for root in roots:
        # Behind everything else: a test's own modules are not to be hidden by a function's neighbours.
        if root.is_dir() and str(root) not in sys.path:
            sys.path.append(str(root))
    found = [(marks_of(plain).name or f"{space}/{name}", plain) for file in files for name, plain in _public(file)]
    if not found:
        raise NotFound(f"{path} defines no public function", fix="define one at the top level of the file")
    return found


def _may_define(name: str) -> bool:
    return name not in _NO_ENTRY and not name.startswith("test_") and not name.endswith("_test.py")


def _public(file: Path) -> list[tuple[str, Callable[..., Any]]]:
    """Import one file under a name of its own, and return what it defines."""
    package = file.name == "__init__.py"
    stem = file.parent.name if package else file.stem
    if package:
        module = importlib.import_module(stem)
    else:
        name = f"osiris_local_{re.sub(r'[^0-9A-Za-z_]', '_', str(file.with_suffix('')))}"
        specification = importlib.util.spec_from_file_location(name, file)
        if specification is None or specification.loader is None:
            raise NotFound(f"{file} is not a Python file")
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        specification.loader.exec_module(module)
    tree = ast.parse(file.read_bytes(), str(file))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return [(name, getattr(module, name)) for name in sorted(names) if not name.startswith("_")]
