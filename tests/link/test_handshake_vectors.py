"""The public vectors of the reference implementation (npm: test-secret-handshake, 159 cases), fetched, not shipped."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from nacl import bindings

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.link.handshake import ClientHandshake, ServerHandshake, auth, check_hello, make_hello, session_keys

PACKAGE = "test-secret-handshake"
VERSION = "1.0.2"
# Of data.json inside the package: what is tested against must be what was looked at.
DATA_SHA256 = "681d24101cef6e1f4f0cf11514aabaf87a80bd831c1e6907f119f436993d4fe2"
CASES = 159


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "osiris-mesh-tests"
    kept = cache / f"{PACKAGE}-{VERSION}.json"
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            _missing("npm is not installed, so the public handshake vectors can't be fetched")
        folder = tmp_path_factory.mktemp("vectors")
        try:
            subprocess.run(
                [str(npm), "pack", "--silent", f"{PACKAGE}@{VERSION}"],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=60,
            )
        except (subprocess.SubprocessError, OSError) as error:
            _missing(f"the public handshake vectors can't be fetched: {error}")
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes()), mode="r:gz") as package:
            member = package.extractfile("package/data.json")
            assert member is not None
            data = member.read()
        cache.mkdir(parents=True, exist_ok=True)
        temporary = cache / f".{os.getpid()}.new"
        temporary.write_bytes(data)
        temporary.replace(kept)
    data = kept.read_bytes()
    assert sha256(data).hexdigest() == DATA_SHA256
    cases: list[dict[str, Any]] = json.loads(data)
    assert len(cases) == CASES
    return cases


def h(text: str) -> bytes:
    return bytes.fromhex(text)


def key_of(state: dict[str, Any]) -> KeyPair:
    key = KeyPair(h(state["local"]["secretKey"])[:32])
    assert key.public == h(state["local"]["publicKey"])
    return key


def client_of(state: dict[str, Any], server: str | None = None) -> ClientHandshake:
    public = server or state["remote"]["publicKey"]
    return ClientHandshake(key_of(state), h(state["app_key"]), h(public), h(state["local"]["kx_sk"]))


def server_of(state: dict[str, Any]) -> ServerHandshake:
    return ServerHandshake(key_of(state), h(state["app_key"]), h(state["local"]["kx_sk"]))


def peer_hello(state: dict[str, Any]) -> bytes:
    return h(state["remote"]["app_mac"]) + h(state["remote"]["kx_pk"])


def check_initialize(args: list[Any], result: Any) -> None:
    (state,) = args
    assert result == state
    ephemeral = bindings.crypto_scalarmult_base(h(state["local"]["kx_sk"]))
    assert ephemeral.hex() == state["local"]["kx_pk"]
    assert auth(h(state["app_key"]), ephemeral).hex() == state["local"]["app_mac"]
    key_of(state)
    if state.get("seed") is not None:
        assert KeyPair(h(state["seed"])).public.hex() == state["local"]["publicKey"]


def check_create_challenge(args: list[Any], result: Any) -> None:
    (state,) = args
    ephemeral = bindings.crypto_scalarmult_base(h(state["local"]["kx_sk"]))
    assert make_hello(h(state["app_key"]), ephemeral).hex() == result


def check_verify_challenge(args: list[Any], result: Any) -> None:
    state, challenge = args
    if result is None:
        with pytest.raises(RemoteProtocolError):
            check_hello(h(state["app_key"]), h(challenge))
        return
    assert check_hello(h(state["app_key"]), h(challenge)).hex() == result["remote"]["kx_pk"]
    shared = bindings.crypto_scalarmult(h(result["local"]["kx_sk"]), h(result["remote"]["kx_pk"]))
    assert shared.hex() == result["secret"]
    assert sha256(shared).hexdigest() == result["shash"]
    assert server_of(state).receive_hello(h(challenge)) == make_hello(h(state["app_key"]), h(state["local"]["kx_pk"]))


def check_client_verify_challenge(args: list[Any], result: Any) -> None:
    state, challenge = args
    client = client_of(result or state)
    if result is None:
        with pytest.raises(RemoteProtocolError):
            client.receive_hello(h(challenge))
        return
    box = client.receive_hello(h(challenge))
    opened = bindings.crypto_secretbox_open_easy(box, bytes(24), h(result["secret2"]))
    assert opened.hex() == result["local"]["hello"]


def check_client_create_auth(args: list[Any], result: Any) -> None:
    (state,) = args
    assert client_of(state).receive_hello(peer_hello(state)).hex() == result


def check_server_verify_auth(args: list[Any], result: Any) -> None:
    state, message = args
    server = server_of(state)
    server.receive_hello(peer_hello(state))
    if result is None:
        with pytest.raises(RemoteProtocolError):
            server.receive_auth(h(message))
        return
    assert server.receive_auth(h(message)).hex() == result["remote"]["publicKey"]


def check_server_create_accept(args: list[Any], result: Any) -> None:
    (state,) = args
    server = server_of(state)
    server.receive_hello(peer_hello(state))
    # The state holds what message 3 contained; box it again as the client did.
    message = bindings.crypto_secretbox_easy(h(state["remote"]["hello"]), bytes(24), h(state["secret2"]))
    server.receive_auth(message)
    accept, _ = server.accept()
    assert accept.hex() == result


def check_client_verify_accept(args: list[Any], result: Any) -> None:
    state, message = args
    client = client_of(state)
    client.receive_hello(peer_hello(state))
    if result is None:
        with pytest.raises(RemoteProtocolError):
            client.receive_accept(h(message))
        return
    client.receive_accept(h(message))
    assert result["secret3"] == state["secret3"]


def check_clean(args: list[Any], result: Any) -> None:
    (state,) = args
    keys = session_keys(
        h(result["secret"]),
        h(result["app_key"]),
        own=h(result["local"]["publicKey"]),
        peer=h(result["remote"]["publicKey"]),
        own_ephemeral=h(result["local"]["kx_pk"]),
        peer_ephemeral=h(result["remote"]["kx_pk"]),
    )
    assert keys.send_key.hex() == result["encryptKey"]
    assert keys.receive_key.hex() == result["decryptKey"]
    assert keys.send_nonce == h(result["remote"]["app_mac"])[:24]
    assert keys.receive_nonce == h(result["local"]["app_mac"])[:24]
    assert state["app_key"] == result["app_key"]


def check_to_keys(args: list[Any], result: Any) -> None:
    (secret,) = args
    if isinstance(secret, str):
        assert KeyPair(h(secret)[:32]).public.hex() == result["publicKey"]


CHECKS = {
    "initialize": check_initialize,
    "createChallenge": check_create_challenge,
    "verifyChallenge": check_verify_challenge,
    "clientVerifyChallenge": check_client_verify_challenge,
    "clientCreateAuth": check_client_create_auth,
    "serverVerifyAuth": check_server_verify_auth,
    "serverCreateAccept": check_server_create_accept,
    "clientVerifyAccept": check_client_verify_accept,
    "clean": check_clean,
    "toKeys": check_to_keys,
}


def test_every_public_vector(vectors: list[dict[str, Any]]) -> None:
    failures = []
    for number, case in enumerate(vectors):
        try:
            CHECKS[case["name"]](case["args"], case.get("result"))
        except Exception as error:  # noqa: BLE001 - every failing case is to be listed
            failures.append(f"{number} {case['name']}: {error!r}")
    assert not failures, "\n".join(failures)
