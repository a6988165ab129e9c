"""URLs, the environment git gets, and what becomes of a command that does not end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.errors import LimitExceeded, Unavailable, UsageError
from osiris_mesh.registry.git_command import Remote, check_branch, environment, run
from osiris_mesh.registry.tree_git import GitTree
from tests.registry.git.repository import need_git


@pytest.mark.parametrize(
    "url",
    [
        "https://host.example/a/b.git", "ssh://git@host.example:2222/a.git", "git@host.example:a/b.git",
        "host:a.git", "file:///srv/registry.git", "/srv/registry.git", "http://10.0.0.1/a.git", "https://[::1]:8443/a",
        "git+https://host.example/a.git", "git+file:///srv/a.git",
    ],
)  # fmt: skip
def test_remotes_of_registries(url: str) -> None:
    assert Remote.parse(url).url == url.removeprefix("git+")


@pytest.mark.parametrize(
    "url",
    [
        "", "-uecho", "--upload-pack=touch x", "ext::sh -c touch% x", "ext::sh", "fd::7", "transport::https://x/y",
        "ssh://-oProxyCommand=touch/x", "ssh://-o@host/x", "-o@host:x", "git@-oProxyCommand=x:y", "host:-x", "host:",
        ":x", "git://host/x", "ftp://host/x", "rsync://host/x", "https:///x", "https://",
        "https://host:port/x", "https://host/a b", "https://host/\n", "https://h\u00f6st/x", "https://" + "h" * 3000,
        "relative/path", "../up", "registry.git", "http://me:secret@host/x", "https://[::1/x", "git+ext::sh",
    ],
)  # fmt: skip
def test_what_git_must_not_be_given(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Remote.parse(url)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_becomes_an_option_or_a_helper(text: str) -> None:
    try:
        url = Remote.parse(text).url
    except UsageError:
        return
    assert not url.startswith("-")
    assert "::" not in url.split("/")[0] or url.startswith("/")
    assert url.isprintable()


@pytest.mark.parametrize("branch", ["main", "registry/v1", "v1.2", "_x", "a" * 200])
def test_branches(branch: str) -> None:
    assert check_branch(branch) == branch


@pytest.mark.parametrize(
    "branch",
    ["", "-f", "--delete", "a..b", "a//b", "/a", "a/", "a/.b", "a.lock", "a/b.lock/c", "a b", "a:b", "a~1", "a^", "a\n",
     "@{-1}", "+main", "*", "a.", "a" * 201, "\u00e4"],
)  # fmt: skip
def test_what_is_no_branch(branch: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        GitTree("x", "file:///srv/a.git", tmp_path, branch=branch)


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    remote = Remote.parse("https://me:p%40ss@host.example/a.git")
    said = remote.mask("fatal: could not read https://me:p%40ss@host.example/a.git with p@ss or https://x:y@other/")
    for text in (said, repr(remote), remote.shown, repr(GitTree("x", remote.url, tmp_path))):
        assert "p%40ss" not in text
        assert "p@ss" not in text
        assert "x:y" not in text
    assert "host.example/a.git" in said
    assert "token" not in Remote.parse("https://token@host.example/a").shown


def test_the_environment_is_built_and_not_inherited() -> None:
    given_ = {
        "HOME": "/home/me", "PATH": "/bin", "SSH_AUTH_SOCK": "/run/agent", "GIT_SSH_COMMAND": "ssh -i key",
        "GIT_ASKPASS": "/bin/ask", "https_proxy": "http://proxy", "OSIRIS_TOKEN": "secret", "LD_PRELOAD": "x",
        "GIT_DIR": "/elsewhere", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_EXTERNAL_DIFF": "x",
        "GIT_ALLOW_PROTOCOL": "ext", "GIT_TERMINAL_PROMPT": "1", "GIT_TRACE": "1", "PYTHONPATH": "x",
    }  # fmt: skip
    found = environment(Path("/clone"), given_)
    for kept in ("HOME", "PATH", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_ASKPASS", "https_proxy"):
        assert found[kept] == given_[kept]
    for gone in ("OSIRIS_TOKEN", "LD_PRELOAD", "GIT_CONFIG_COUNT", "GIT_EXTERNAL_DIFF", "GIT_TRACE", "PYTHONPATH"):
        assert gone not in found
    assert found["GIT_DIR"] == "/clone"
    assert found["GIT_TERMINAL_PROMPT"] == "0"
    assert found["GIT_ALLOW_PROTOCOL"] == "file:https:http:ssh"
    assert environment(Path("/clone"), given_, offline=True)["GIT_ALLOW_PROTOCOL"] == "none"


async def test_a_command_that_says_too_much(tmp_path: Path) -> None:
    need_git()
    with pytest.raises(LimitExceeded):
        await run(["help", "-a"], tmp_path, seconds=10, most=100)


async def test_there_is_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no git"):
        await run(["version"], tmp_path, seconds=10)
