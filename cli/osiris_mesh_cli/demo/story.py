"""The demo's course: form, deploy, call, kill, recover, restart, compare."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

from osiris_mesh.errors import CheckFailed
from osiris_mesh.ledger.kinds import ConfigSet
from osiris_mesh.node.options import NodeOptions
from osiris_mesh.node.prepare import create_mesh, join_mesh
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.demo.caller import Caller
from osiris_mesh_cli.demo.nodes import DemoNode, poll
from osiris_mesh_cli.demo.sharpness import decode, laplacian_energy
from osiris_mesh_cli.deployment import deploy
from osiris_mesh_cli.session import Session
from osiris_mesh_cli.token import make_token

__all__ = ["tell"]

FUNCTION: Final = "image-processing/sharpen"
_NAMES: Final = ("ada", "grace", "edsger")
_CALLS_BEFORE: Final = 25
_CALLS_AFTER: Final = 50
_MIN_GAIN: Final = 1.2
_STOP_SECONDS: Final = 5.0


class _Narrator:
    """Says what happens, with the time since the beginning."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begin = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begin

    def say(self, text: str) -> None:
        self._session.say(f"{self.elapsed:5.1f} s  {text}")


def tell(session: Session, *, out: Path | None, keep: bool) -> int:
    """Run the demo and print its figures.

    Args:
        session: Where to print.
        out: Folder of the pictures; a new temporary one if None.
        keep: Leave the homes.

    Returns:
        0 if every call was answered right and the chains are identical, else 1.

    Raises:
        OsirisError: A step could not be done at all.
    """
    narrator = _Narrator(session)
    folder = Path(tempfile.mkdtemp(prefix="osiris-demo-"))
    pictures = folder if out is None else out
    pictures.mkdir(parents=True, exist_ok=True)
    nodes = [DemoNode(folder, name) for name in _NAMES]
    good = False
    with _terminated_as_interrupt():
        try:
            figures = _run(nodes, narrator, pictures)
            good = bool(figures["calls_failed"] == 0 and figures["ledger"]["valid"] and figures["ledger"]["identical"])
        finally:
            _end(nodes)
            if keep or not good:
                session.say(f"the nodes' homes and logs: {folder}")
            else:
                for node in nodes:
                    shutil.rmtree(node.home.path, ignore_errors=True)
    figures["elapsed_s"] = round(narrator.elapsed, 2)
    session.result(figures, lambda: _summary(figures, good=good))
    if good:
        session.say(_next_steps())
    return 0 if good else 1


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that its processes are ended too."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(nodes: Sequence[DemoNode]) -> None:
    """End every controller, all at once."""
    for node in nodes:
        node.begin_end()
    deadline = time.monotonic() + _STOP_SECONDS
    for node in nodes:
        node.end(deadline - time.monotonic())


def _run(nodes: list[DemoNode], narrator: _Narrator, pictures: Path) -> dict[str, Any]:
    _form(nodes, narrator)
    leader = _leader(nodes)
    at, asked = [node for node in nodes if node is not leader]
    with resources.as_file(resources.files("osiris_mesh_cli.demo") / "image-processing") as examples:
        picture = (examples / "picture.png").read_bytes()
        narrator.say(f"deploying {FUNCTION} at {at.name} …")
        with Controller(at.home) as controller:
            deployed = deploy(controller, str(examples / "sharpen.py"), say=narrator.say)[0]
    narrator.say(f"{FUNCTION} {deployed['version']} is active, its tests passed")
    sharpened, gain = _first_call(asked, picture)
    (pictures / "original.png").write_bytes(picture)
    (pictures / "sharpened.png").write_bytes(sharpened)
    narrator.say(f"called at {asked.name}: the picture came back {gain:.1f} times as sharp")
    with ExitStack() as stack:
        caller = stack.enter_context(Caller(asked.home, FUNCTION, picture, sharpened))
        poll(lambda: caller.ok + caller.failed >= _CALLS_BEFORE, 30, "the first calls")
        narrator.say(f"{caller.ok} calls answered; {asked.name} keeps being called")
        victim = _leader(nodes)
        if victim is asked:
            # Leadership moved to the node that is called: go on calling at another, so that it can be killed.
            other = next(node for node in nodes if node is not asked)
            stack.close()
            before, caller = caller, stack.enter_context(Caller(other.home, FUNCTION, picture, sharpened))
            caller.ok, caller.failed, caller.faults = before.ok, before.failed, before.faults
            asked = other
        survivors = [node for node in nodes if node is not victim]
        recovered, done = _kill(victim, survivors, narrator), caller.ok
        narrator.say(f"{_leader(survivors).name} leads; a change was recorded {recovered:.2f} s after the kill")
        poll(lambda: caller.ok + caller.failed >= done + _CALLS_AFTER, 30, "calls after the kill")
        narrator.say(f"{caller.ok} calls answered, {caller.failed} failed")
        narrator.say(f"starting {victim.name} again …")
        victim.start()
        height = poll(lambda: _same_height(nodes), 30, f"{victim.name} to catch up")
        narrator.say(f"{victim.name} caught up at height {height}; still {caller.ok} calls right")
    narrator.say("verifying the ledger on all three, every block …")
    ledger = _compare(nodes)
    narrator.say(
        f"{caller.ok} calls right, {caller.failed} failed, the longest took {caller.longest:.2f} s; "
        f"{ledger['height']} blocks, {'identical' if ledger['identical'] else 'NOT IDENTICAL'}"
    )
    return {
        "nodes": len(nodes),
        "calls_ok": caller.ok,
        "calls_failed": caller.failed,
        "leader_killed": victim.peer,
        "recovered_s": round(recovered, 3),
        "ledger": ledger,
        "elapsed_s": round(narrator.elapsed, 2),
        "longest_call_s": round(caller.longest, 3),
        "faults": caller.faults,
        "function": FUNCTION,
        "sharper": round(gain, 2),
        "pictures": {"original": str(pictures / "original.png"), "sharpened": str(pictures / "sharpened.png")},
    }


def _form(nodes: Sequence[DemoNode], narrator: _Narrator) -> None:
    """Make a mesh of three voters: one creates it, two join with a token."""
    first, *others = nodes

    def options(node: DemoNode) -> NodeOptions:
        return NodeOptions(name=node.name, listen="127.0.0.1:0", mdns=False, preset="local")

    create_mesh(first.home, options(first), "demo")
    first.start()
    narrator.say(f"{first.name} created a mesh")
    with Controller(first.home) as controller:
        token = make_token(controller, uses=len(others), ttl_seconds=600.0, grant="operator").text()
    for node in others:
        join_mesh(node.home, token, options(node))
        node.start()
        narrator.say(f"{node.name} joined with a token")

    def all_vote() -> bool:
        status = first.ask("node.status")
        return bool(status["leader"] and sum(bool(member["voter"]) for member in status["members"]) == len(nodes))

    poll(all_vote, 30, "three voters")
    narrator.say(f"three voters, {_leader(nodes).name} leads")


def _leader(nodes: Sequence[DemoNode]) -> DemoNode:
    """Return the node of ``nodes`` that leads."""

    def probe() -> DemoNode | None:
        peer = nodes[0].ask("node.status")["leader"]
        return next((node for node in nodes if node.peer == peer), None)

    return poll(probe, 20, "a leader")


def _first_call(node: DemoNode, picture: bytes) -> tuple[bytes, float]:
    """Call once and check the answer by our own means; return it and how many times as sharp it is."""

    def probe() -> bytes | None:
        with Controller(node.home) as controller:
            answer = controller.mesh.options(timeout=30).call(FUNCTION, picture)
            return answer if isinstance(answer, bytes) else None

    answer = poll(probe, 60, f"an answer at {node.name}")
    before, after = decode(picture), decode(answer)
    if (before.width, before.height) != (after.width, after.height):
        raise CheckFailed("the picture came back in another size")
    gain = laplacian_energy(after) / laplacian_energy(before)
    if gain < _MIN_GAIN:
        raise CheckFailed(f"the picture came back {gain:.2f} times as sharp, which is not sharpened")
    return answer, gain


def _kill(victim: DemoNode, survivors: Sequence[DemoNode], narrator: _Narrator) -> float:
    """Kill the leader; return the seconds until a change is recorded without it."""
    narrator.say(f"kill -9 of {victim.name}, the leader")
    begin = time.monotonic()
    victim.kill()

    def write() -> bool:
        with Controller(survivors[0].home) as controller:
            controller.submit(ConfigSet("demo.survived", victim.name), timeout=2.0)
        return True

    poll(write, 30, "a ledger that takes changes again")
    return time.monotonic() - begin


def _same_height(nodes: Sequence[DemoNode]) -> int | None:
    """Return the height at which all nodes stand, or None while they differ."""
    tips = [node.ask("node.status") for node in nodes]
    same = len({(tip["height"], tip["tip"]) for tip in tips}) == 1
    return int(tips[0]["height"]) if same else None


def _compare(nodes: Sequence[DemoNode]) -> dict[str, Any]:
    """Verify every chain and compare every block."""
    reports = [node.ask("ledger.verify", timeout=60) for node in nodes]
    height = min(int(report["height"]) for report in reports)
    hashes = [_hashes(node, height) for node in nodes]
    return {
        "height": height,
        "valid": all(bool(report["valid"]) for report in reports),
        "identical": all(chain == hashes[0] for chain in hashes) and len(hashes[0]) > 0,
        "compared": len(hashes[0]),
    }


def _hashes(node: DemoNode, height: int) -> list[str]:
    """Return the hash of every block of a node's chain up to a height, lowest first."""
    hashes: list[str] = []
    while len(hashes) < height:
        blocks = node.ask("ledger.log", {"from": len(hashes) + 1, "limit": 500})["blocks"]
        for block in blocks:
            if block["height"] != len(hashes) + 1:
                raise CheckFailed(f"the ledger of {node.name} has no block {len(hashes) + 1}")
            hashes.append(str(block["hash"]))
        if not blocks:
            raise CheckFailed(f"the ledger of {node.name} ends before block {height}")
    return hashes[:height]


def _summary(figures: dict[str, Any], *, good: bool) -> str:
    ledger = figures["ledger"]
    valid = "valid" if ledger["valid"] else "NOT VALID"
    same = "identical" if ledger["identical"] else "NOT IDENTICAL"
    lines = [
        f"{figures['calls_ok']} calls answered right, {figures['calls_failed']} failed",
        f"changes accepted again {figures['recovered_s']:.2f} s after the leader was killed",
        f"three ledgers, {valid} and {same}: {ledger['compared']} blocks",
        f"original   {figures['pictures']['original']}",
        f"sharpened  {figures['pictures']['sharpened']}",
        *(f"fault: {fault}" for fault in figures["faults"]),
        "all is well" if good else "SOMETHING IS WRONG",
    ]
    return "\n".join(lines)


def _next_steps() -> str:
    found = shutil.which("osiris-mesh")
    activate = "" if found else f"  . {Path(sys.executable).parent / 'activate'}\n"
    return (
        f"\nNow your own, in this terminal:\n{activate}"
        "  osiris-mesh init --detach\n"
        "  osiris-mesh deploy FILE.py\n"
        "  osiris-mesh call NAMESPACE/FUNCTION ARGUMENT…\n"
        "and on another machine, or with another OSIRIS_HOME:\n"
        "  osiris-mesh join $(osiris-mesh token create)   # the token from the first"
    )
