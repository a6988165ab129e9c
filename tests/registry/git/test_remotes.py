"""Remotes of every kind: ssh with the user's own command, https with his certificates and his credential helper."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.web_request import BaseRequest

from osiris_mesh.errors import Denied, Unavailable
from osiris_mesh.registry.tree_git import GitTree
from tests.registry.git.repository import Repository, appending, writing
from tests.registry.http.hosts import serving

NAME = "ns/_/text/shout.jsonl"
USER, PASSWORD = "me", "very-secret"


@pytest.fixture
def remote(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "remote.git")


async def test_ssh_runs_the_users_command_with_his_agent(
    remote: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "my-ssh"
    # As sshd does: the last argument is the command.
    ssh.write_text(
        f'#!/bin/sh\necho "$SSH_AUTH_SOCK $*" >> {tmp_path}/log\n'
        'for last; do :; done\nunset GIT_DIR\neval "exec $last"\n'
    )
    ssh.chmod(0o700)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    monkeypatch.setenv("GIT_SSH_VARIANT", "ssh")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/my-agent")
    tree = GitTree("ours", f"me@localhost:{remote.folder}", tmp_path / "clone")
    try:
        tag = await tree.publish(appending(NAME, b"{}"), "x")
        assert await tree.refresh() == tag == remote.head()
    finally:
        await tree.close()
    log = (tmp_path / "log").read_text().splitlines()
    assert all(line.startswith("/run/my-agent ") for line in log)
    assert "git-receive-pack" in log[-2] + log[-1]


class SmartHost:
    """A host of repositories over https, by git's own http-backend, with a password."""

    def __init__(self, folder: Path, may_push: bool = True) -> None:
        self.folder = folder
        self.may_push = may_push

    async def __call__(self, request: BaseRequest) -> web.Response:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != wanted:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if "receive-pack" in request.path_qs and not self.may_push:
            return web.Response(status=403, text="you may read and not write")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": USER,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        }
        child = await asyncio.create_subprocess_exec("git", "http-backend", stdin=PIPE, stdout=PIPE, env=env)
        out, _ = await child.communicate(await request.content.read())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=body)


@pytest.fixture
def server_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    config = tmp_path / "gitconfig"
    config.write_text(f'[credential]\n\thelper = "!f() {{ echo username={USER}; echo password={PASSWORD}; }}; f"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "ca.pem"))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return context


async def test_https_with_the_users_certificates_and_credentials(
    remote: Repository, tmp_path: Path, server_tls: ssl.SSLContext
) -> None:
    host = SmartHost(tmp_path)
    async with serving(host, server_tls) as address:
        tree = GitTree("ours", f"{address}/remote.git", tmp_path / "clone")
        try:
            await tree.publish(appending(NAME, b"1"), "x")
            tag = await tree.publish(appending(NAME, b"2"), "x")
            assert remote.head() == tag
            host.may_push = False
            with pytest.raises(Denied, match="403"):
                await tree.publish(appending(NAME, b"3"), "x")
            assert await tree.refresh() == tag
        finally:
            await tree.close()
    assert PASSWORD not in (tmp_path / "clone" / "config").read_text()


async def test_a_wrong_password_is_told_without_it(
    remote: Repository, tmp_path: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    async with serving(SmartHost(tmp_path), server_tls) as address:
        tree = GitTree("ours", address.replace("//", "//me:another-secret@") + "/remote.git", tmp_path / "clone")
        try:
            with pytest.raises(Unavailable, match="Authentication failed") as caught:
                await tree.publish(writing({NAME: b"1\n"}), "x")
        finally:
            await tree.close()
    assert "another-secret" not in repr(caught.value.to_wire())


async def test_a_certificate_nobody_vouches_for(
    remote: Repository, tmp_path: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_SSL_CAINFO")
    async with serving(SmartHost(tmp_path), server_tls) as address:
        tree = GitTree("ours", f"{address}/remote.git", tmp_path / "clone")
        with pytest.raises(Unavailable, match="certificate"):
            await tree.refresh()
