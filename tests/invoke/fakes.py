"""What stands in for the ledger, the runtime and the other nodes around an Invoker."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import FunctionError, OsirisError
from osiris_mesh.function.signature import Signature
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.choice import Candidate
from osiris_mesh.link import Caller


async def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until ``holds`` is true, at most so long."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.002)


def spec(name: str, version: str = "1.0.0", signature: Signature | None = None, **fields: Any) -> FunctionSpec:
    return FunctionSpec(
        name=name,
        version=version,
        digest=hashlib.sha256(f"{name}{version}".encode()).digest(),
        entry="f.py::f",
        runtime="python3.11",
        signature=(signature or Signature(())).to_wire(),
        **fields,
    )


class FakeLedger:
    """Functions by name; the version published last is the active one."""

    def __init__(self, *specs: FunctionSpec) -> None:
        self.functions: dict[str, list[FunctionSpec]] = {}
        for one in specs:
            self.publish(one)

    def publish(self, one: FunctionSpec) -> None:
        self.functions.setdefault(one.name, []).append(one)

    def active(self, name: str) -> FunctionSpec | None:
        known = self.functions.get(name)
        return known[-1] if known else None

    def versions(self, name: str) -> list[FunctionSpec]:
        return self.functions.get(name, [])


@dataclass
class Had:
    instances: int = 1
    in_flight: int = 0
    queued: int = 0
    room: bool = True


@dataclass
class FakeRunner:
    """Runs Python callables in place of workers.

    Attributes:
        code: Callables by function name.
        had: What :meth:`here` answers.
        fast: Whether :meth:`begin` takes calls.
        before: Errors to answer the next runs with, first in first out.
        runs: Headers of every run, with ``caller`` and ``way``.
        paused: Instances whose slot is given up now.
        given_up: Calls given up.
        hold: If set, runs wait for it.
        at_once: If set, :meth:`begin` answers with what it returns, or raises, before it returns itself.
    """

    code: dict[str, Callable[..., Any]] = field(default_factory=dict)
    had: Had = field(default_factory=Had)
    fast: bool = True
    before: list[OsirisError] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    given_up: int = 0
    hold: asyncio.Event | None = None
    at_once: Callable[[FunctionSpec], bytes | OsirisError] | None = None

    def begin(
        self,
        spec: FunctionSpec,
        body: bytes,
        done: Callable[[bytes | OsirisError], None],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
        caller: Caller,
    ) -> Callable[[], None] | None:
        if not self.fast or self.had.in_flight >= self.had.instances * spec.concurrency:
            return None
        self._note("begin", deadline, headers, caller)
        if self.at_once is not None:
            done(self.at_once(spec))
            return self.given_up_late

        async def work() -> None:
            try:
                answer: bytes | OsirisError = await self._run(spec, body)
            except OsirisError as error:
                answer = error
            done(answer)

        task = asyncio.get_running_loop().create_task(work())

        def give_up() -> None:
            self.given_up += 1
            task.cancel()

        return give_up

    async def run(
        self, spec: FunctionSpec, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> bytes:
        self._note("run", deadline, headers, caller)
        try:
            return await self._run(spec, body)
        except asyncio.CancelledError:
            self.given_up += 1
            raise

    def _note(self, way: str, deadline: float | None, headers: Mapping[str, Any], caller: Caller) -> None:
        self.runs.append({**headers, "way": way, "caller": caller, "deadline": deadline})

    async def _run(self, spec: FunctionSpec, body: bytes) -> bytes:
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        if self.before:
            raise self.before.pop(0)
        args, kwargs = unpack(body, VALUE)
        try:
            result = self.code[spec.name](*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = await result
        except ArithmeticError as error:
            kind = type(error).__name__
            raise FunctionError(f"{kind}: {error}", type=kind, message=str(error), traceback="its own") from None
        return pack(result)

    def given_up_late(self) -> None:
        raise AssertionError("a call that was answered was given up")

    def here(self, _spec: FunctionSpec) -> Had:
        return self.had

    def pause(self, caller: Caller) -> Callable[[], None]:
        self.paused.append(caller.name)
        return lambda: self.paused.remove(caller.name)


@dataclass
class FakePeers:
    """Other nodes that answer from a table of results or errors.

    Attributes:
        nodes: What gossip says of them.
        answers: By peer: bytes, or an error to raise.
        calls: Peer, method, headers and timeout of every call.
    """

    nodes: list[Candidate] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, str, dict[str, Any], float]] = field(default_factory=list)

    def candidates(self, _digest: bytes) -> list[Candidate]:
        return self.nodes

    async def call(self, peer: str, method: str, body: bytes, *, timeout: float, headers: dict[str, Any]) -> bytes:
        self.calls.append((peer, method, headers, timeout))
        await asyncio.sleep(0)
        answer = self.answers[peer]
        if isinstance(answer, OsirisError):
            raise answer
        return answer(body, headers) if callable(answer) else answer
