"""Every example of every command's ``--help`` does what it says: run word for word against a real controller.

Placeholders alone are filled in (``osm1…``, ``osa1…``, the id of a token); nodes that examples start get free ports
besides. The examples of ``demo`` are run by ``test_demo.py``.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

import pytest

from osiris_mesh_cli.main import main, root
from osiris_mesh_cli.reference import leaves
from tests.system.harness import ENVIRONMENT, Answer, Mesh, Node, wait_until

pytestmark = pytest.mark.system

EXAMPLES = [
    line.strip().removeprefix("osiris-mesh ")
    for path, item in leaves(root())
    if path != ("demo",)
    for line in item.epilog.split("Example:\n")[1].splitlines()
]
QUIET = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--no-mdns", "--preset", "local")
# Those that go on until Ctrl-C, and what they have said by then.
ENDLESS = {
    "init --name home": "next: osiris-mesh deploy",
    "join osm1…": "next: osiris-mesh status",
    "start": "next: osiris-mesh status",
    "logs addNumbers --tail": "adding",
    "events -f": "deploy.done",
}
ADD = '''
def add_numbers(a: int, b: int = 5) -> int:
    """Add two numbers."""
    print("adding")
    return a + b
'''
WORDS = '''
def tokens(text: str) -> list[str]:
    """Split a text into words."""
    print("no error")
    return text.split()
'''
SHARPEN = '''
def sharpen(data: bytes, strength: float = 0.5) -> bytes:
    """Sharpen a picture."""
    return data * round(strength + 1)
'''


OPENAPI = b"""{"openapi": "3.0.3", "info": {"title": "weather", "version": "1"}, "paths": {"/weather": {"get": {
"operationId": "weather", "summary": "Tell the weather.", "responses": {"200": {"description": "it"}},
"parameters": [{"name": "place", "in": "query", "required": true, "schema": {"type": "string"}}]}}}}"""


class Hook(BaseHTTPRequestHandler):
    """Takes deliveries, and tells what a provider offers."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(OPENAPI)))
        self.end_headers()
        self.wfile.write(OPENAPI)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Stage:
    """One node with functions, and a folder with their files, in which examples run."""

    mesh: Mesh
    node: Node
    folder: Path
    port: int

    def run(self, words: list[str], home: Path | None = None, *, endless: str = "") -> Answer:
        environment = ENVIRONMENT | {
            "OSIRIS_HOME": str(home or self.node.home),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PYTHONUNBUFFERED": "1",
        }
        running = subprocess.Popen(
            [sys.executable, "-m", "osiris_mesh_cli", *words],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = ""
        try:
            if endless:
                said = _await(running, endless)
                running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
            running.wait()
        return Answer(running.returncode, out, said + err)

    def here(self, line: str) -> Answer:
        """Run a line in this process: preparations are many, and a process for each would take longer than all else."""
        out, err = io.StringIO(), io.StringIO()
        own = {"OSIRIS_HOME": str(self.node.home), "XDG_CONFIG_HOME": str(self.folder / "config")}
        with (
            mock.patch.dict(os.environ, own),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(shlex.split(line))
        return Answer(code, out.getvalue(), err.getvalue())

    def ok(self, line: str) -> Answer:
        answer = self.here(line)
        assert answer.code == 0, f"{line}: exit {answer.code}\n{answer.out}\n{answer.err}"
        return answer

    def may(self, line: str) -> None:
        """Run a line that need not succeed: what it takes away may not be there."""
        self.here(line)

    def add_numbers(self) -> None:
        """Have addNumbers with two versions, the second one active."""
        self.may("remove addNumbers")
        self.ok("deploy ./functions/add_numbers.py --name addNumbers")
        self.ok("update addNumbers ./functions/add_numbers_v2.py")

    def other(self) -> Path:
        """Return the home of another node with a mesh of its own; it runs."""
        return self.mesh.init("--http", "127.0.0.1:0").home


def _await(running: subprocess.Popen[str], text: str) -> str:
    """Read what a program says until it has said ``text``, on stdout or stderr, and return the lines of stderr."""
    heard: list[str] = []
    found = threading.Event()
    assert running.stdout is not None
    assert running.stderr is not None
    stream = running.stderr if text.startswith("next:") else running.stdout

    def listen() -> None:
        for line in stream:
            heard.append(line)
            if text in line:
                found.set()
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert found.wait(40), f"{text!r} was not said but: {heard}"
    listener.join(5)
    return "".join(heard) if stream is running.stderr else ""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory(prefix="oh-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        work = folder / "work"
        for path, source in {
            "functions/add_numbers.py": ADD,
            "functions/add_numbers_v2.py": ADD.replace("a + b", "b + a"),
            "image-processing/sharpen.py": SHARPEN,
            "text/words.py": WORDS,
            "math/add.py": ADD.replace("add_numbers", "add"),
        }.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(source)
        (work / "ci.pub").write_text("0c" * 32 + "\n")
        (work / "picture.png").write_bytes(b"\x89PNG")
        mesh = Mesh(folder)
        try:
            made = Stage(mesh, mesh.init("--http", "127.0.0.1:0"), work, server.server_port)
            for path in ("math/add.py", "text/words.py", "image-processing/sharpen.py", "functions/add_numbers.py"):
                made.ok(f"deploy {path}" + (" --name addNumbers" if "add_numbers" in path else ""))
            made.ok("call addNumbers 1")
            yield made
        finally:
            mesh.close()
            server.shutdown()
            thread.join(5)
            server.server_close()


def heights(stage: Stage) -> None:
    """Have a ledger of twelve blocks at least."""
    while stage.ok("ledger log --limit 1 --json").json["height"] < 12:
        for level in ("debug", "info"):
            stage.ok(f"config set log.level {level}")


def sequence(*lines: str) -> Callable[[Stage], None]:
    """Return a preparation of lines, of which those that begin with ``-`` may fail."""

    def prepare(stage: Stage) -> None:
        for line in lines:
            (stage.may if line.startswith("-") else stage.ok)(line.removeprefix("-"))

    return prepare


def no_registry(stage: Stage) -> None:
    """Have neither a registry nor keys for one."""
    for name in ("team", "vendors"):
        stage.may(f"registry remove {name}")
    for folder in (stage.folder / "srv", stage.node.home / "registries", stage.node.home / "keys" / "registry"):
        shutil.rmtree(folder, ignore_errors=True)


def a_registry(stage: Stage) -> None:
    """Have two registries with a function, known by their names, and statements to be signed and published."""
    to = f"file://{stage.folder}/srv/registry"
    if not (stage.folder / "srv" / "registry").exists():
        no_registry(stage)
        for name in ("ci", "second"):
            stage.ok(f"registry keys create {name}")
        stage.ok(f"registry init --to {to}")
        stage.ok(f"registry init --to file://{stage.folder}/srv/vendors --vendor acme.com")
        stage.ok(f"registry publish functions/add_numbers.py --to {to} --key owner --namespace math --version 1.0.0")
    for name in ("registry", "vendors"):
        stage.may(f"registry add {'team' if name == 'registry' else name} file://{stage.folder}/srv/{name}")
    (stage.folder / "root.json").unlink(missing_ok=True)
    stage.ok("registry keys root --key owner --with second --threshold 2 --out root.json")
    stage.ok(f"registry keys root --at {to} --key owner --delegate acme.com=owner --out next.json")


def an_allowed_provider(stage: Stage) -> None:
    stage.ok("config set registry.allow_networks 127.0.0.1/32")


def unknown_registries(stage: Stage) -> None:
    """Have registries that this node does not ask yet."""
    a_registry(stage)
    for name in ("team", "vendors"):
        stage.may(f"registry remove {name}")


def a_token(stage: Stage) -> None:
    """Have the file of a provider's token."""
    path = stage.folder / "acme.token"
    path.write_text("a-token\n")
    path.chmod(0o600)


def a_credential(stage: Stage) -> None:
    """Show it to a provider."""
    a_token(stage)
    stage.ok("registry credential set acme --origin https://api.acme.com --token-file acme.token")


def a_market(stage: Stage) -> None:
    """Have an offer, and a registry in the ledger that has accepted none."""
    a_registry(stage)
    place = f"--to file://{stage.folder}/srv/registry --key owner"
    stage.may("registry init --to ledger: --key owner")
    priced = "--provider acme=https://api.acme.com/add --cost 100 --currency EUR"
    stage.ok(f"registry providers math/add_numbers@1.0.0 {priced} {place}")
    stage.may("registry market withdraw math/add_numbers@1.0.0 --market team --key owner")


def an_acceptance(stage: Stage) -> None:
    """Have accepted it."""
    a_market(stage)
    stage.ok("registry market accept math/add_numbers@1.0.0 --market team --key owner")


# What an example finds, by how it begins; the longest beginning that fits counts.
PREPARED: dict[str, Callable[[Stage], None]] = {
    "update addNumbers": sequence("-remove addNumbers", "deploy ./functions/add_numbers.py --name addNumbers"),
    "deploy ./functions": sequence("-remove addNumbers"),
    "deploy ./text": sequence("-remove text/tokens"),
    "remove addNumbers --version": lambda stage: (stage.add_numbers(), _first_version_is_known(stage))[0],
    "remove addNumbers": Stage.add_numbers,
    "rollback addNumbers --to": lambda stage: (stage.add_numbers(), _first_version_is_known(stage))[0],
    "rollback addNumbers": Stage.add_numbers,
    "logs addNumbers": lambda stage: (stage.add_numbers(), stage.ok("call addNumbers 1"))[0],
    "metrics addNumbers": lambda stage: (stage.add_numbers(), stage.ok("call addNumbers 1"))[0],
    "monitor addNumbers": Stage.add_numbers,
    "logs text/tokens": sequence("deploy ./text/words.py", "call text/tokens words"),
    "call text/tokens": sequence("deploy ./text/words.py"),
    "ledger": heights,
    "user add johndoe": sequence("-user remove johndoe"),
    "user add ci": sequence("-user remove ci"),
    "user update": sequence("-user remove johndoe", "user add johndoe"),
    "user remove": sequence("-user add johndoe"),
    "audit --user": sequence("-user add johndoe"),
    "role remove": sequence("role set caller --grant function.read"),
    "webhook remove": sequence("webhook add pager https://hooks.example.org/osiris --events node.lost"),
    "webhook test": lambda stage: (stage.ok(f"webhook add local http://127.0.0.1:{stage.port}/"), None)[1],
    "alert remove slow": sequence("alert add slow 'function.mean_ms >= 1s'"),
    "alert remove disk-full": sequence("-config reset alert.disk-full"),
    "apitoken create --name shop": lambda stage: _revoke(stage, "shop"),
    "apitoken create --name ci": lambda stage: _revoke(stage, "ci"),
    "service remove": sequence("service install --user"),
    "registry": a_registry,
    "registry add": unknown_registries,
    "registry init": no_registry,
    "registry keys create": no_registry,
    "registry discover": an_allowed_provider,
    "registry credential": a_token,
    "registry credential list": a_credential,
    "registry credential remove": a_credential,
    "registry market": a_market,
    "registry market withdraw": an_acceptance,
}


def _first_version_is_known(stage: Stage) -> None:
    """Numbers of a removed function stay taken, so the first version of this one may not be 1.0.0: make it so."""
    described = stage.ok("describe addNumbers --json").json
    FILLED["1.0.0"] = described["versions"][-2]


def _revoke(stage: Stage, name: str) -> None:
    for token in stage.ok("apitoken list --json").json["tokens"]:
        if token["name"] == name and not token["revoked"]:
            stage.ok(f"apitoken revoke {token['id']}")


FILLED: dict[str, str] = {}


def filled(stage: Stage, line: str) -> str:
    """Return an example with its placeholders filled in."""
    if "osm1…" in line:
        line = line.replace("osm1…", stage.ok("token create").out.strip())
    if "osa1…" in line:
        line = line.replace("osa1…", stage.ok("apitoken create").out.strip())
    if "3f9a0c1d2e4b5a60" in line:
        noun = line.split()[0]
        line = line.replace("3f9a0c1d2e4b5a60", stage.ok(f"{noun} create --json").json["id"])
    line = line.replace("file:///srv/", f"file://{stage.folder}/srv/")
    line = line.replace("https://functions.example.com/openapi.json", f"http://127.0.0.1:{stage.port}/openapi.json")
    for text, value in FILLED.items():
        line = line.replace(text, value) if "addNumbers" in line else line
    return line


def place(stage: Stage, line: str) -> tuple[Path | None, list[str]]:
    """Return the home an example about a node's life runs in (None: the stage's), and what it is given besides."""
    word = line.split(maxsplit=1)[0]
    if word in {"init", "join"}:
        return stage.mesh.home().home, [] if "--listen" in line else list(QUIET)
    if word in {"start", "stop", "restart", "leave", "drain"}:
        home = stage.other()
        if word == "start":
            assert stage.run(["stop"], home).code == 0
        return home, []
    return None, []


def hints(answer: Answer) -> list[str]:
    """Return the commands an answer names as useful now."""
    lines = [line.removeprefix("next: ") for line in answer.err.splitlines() if line.startswith("next: osiris-mesh")]
    return [part.removeprefix("osiris-mesh ") for line in lines for part in line.split(", or ")]


COMMANDS = {" ".join(path) for path, _ in leaves(root())}
# Whoever ran one of these wants to go on, and is told how.
CHANGES = (
    *("init", "join", "start", "stop", "restart", "leave", "drain", "sync", "token create", "token revoke"),
    *(
        "member remove",
        "deploy",
        "update",
        "remove",
        "rollback",
        "config set",
        "config reset",
        "user add",
        "user update",
    ),
    *("user remove", "role set", "role remove", "apitoken create", "apitoken revoke", "webhook add", "webhook remove"),
    *(
        "webhook test",
        "alert add",
        "alert remove",
        "registry init",
        "registry add",
        "registry remove",
        "registry order",
    ),
    *("registry publish", "registry deprecate", "registry alias", "registry providers", "registry renew"),
    *("registry keys create", "registry keys sign", "registry keys publish"),
    *("registry market accept", "registry market withdraw"),
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(stage: Stage, example: str) -> None:
    FILLED.clear()
    beginnings = [beginning for beginning in PREPARED if example.startswith(beginning)]
    if beginnings:
        PREPARED[max(beginnings, key=len)](stage)
    if example.startswith("member remove"):
        stage.mesh.join(stage.node, "--node-name", example.split()[2], "--http", "127.0.0.1:0")
    home, more = place(stage, example)
    line, arrow, target = filled(stage, example).partition(" > ")
    words = [*shlex.split(line), *more]
    answer = stage.run(words, home, endless=ENDLESS.get(example, ""))
    allowed = {0, 130} if example in ENDLESS else {0, 1} if words[0] == "doctor" else {0}
    assert answer.code in allowed, f"exit {answer.code}\n{answer.out}\n{answer.err}"
    assert "Traceback" not in answer.err
    if "--json" in words:
        assert answer.json is not None
    if arrow:
        assert (target, bool(answer.out)) == ("sharper.json", True)
    named = hints(answer)
    assert named or not any(f"{example} ".startswith(f"{command} ") for command in CHANGES)
    for hint in named:
        assert any(" ".join(hint.split()[:count]) in COMMANDS for count in (1, 2, 3)), hint
    if home is not None and example != "join osm1…":
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(Node(home).pid, signal.SIGKILL)


def test_the_stage_still_stands(stage: Stage) -> None:
    wait_until(lambda: stage.ok("status --json").json["quorum"], what="a quorum")
    assert stage.ok("ledger verify --json").json["valid"]
