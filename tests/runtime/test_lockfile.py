from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import OsirisError, RemoteProtocolError, UsageError
from osiris_mesh.runtime.installer import installer_environment
from osiris_mesh.runtime.lock import check_requirements, lock_dependencies
from osiris_mesh.runtime.lockfile import check_lock

HASH = "--hash=sha256:" + "ab" * 32


def test_a_lock_says_what_it_pins() -> None:
    text = f"six==1.17.0 \\\n    {HASH} \\\n    {HASH}\nyarl==1.9 ; python_full_version < '3.12' \\\n    {HASH}\n"
    six, yarl = check_lock(text.encode())
    assert (six.name, six.version, six.marker, len(six.hashes)) == ("six", "1.17.0", "", 2)
    assert yarl.marker == "python_full_version < '3.12'"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment",
        "six==1.17.0",
        f"six>=1.17.0 {HASH}",
        f"six {HASH}",
        f"six @ https://example.org/six.whl {HASH}",
        f"./six==1 {HASH}",
        f"-e six==1 {HASH}",
        "--index-url https://example.org/",
        f"six==1.17.0 {HASH} --no-binary=six",
        f"six==1.17.0 {HASH} --config-settings=x",
        "six==1.17.0 --hash=md5:abcd",
        f"six==1.17.0 --hash=sha256:{'ab' * 31}",
        f"six==1.17.0 {HASH}\n-r other.txt",
        f"six==1.17.0 $HOME {HASH}",
        f"six==1.17.0 {HASH} é",
    ],
)
def test_a_lock_says_nothing_else(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        check_lock(text.encode())


@settings(max_examples=100)
@given(st.text(max_size=200))
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(OsirisError):
        check_lock(text.encode("utf-8", "surrogatepass"))


def test_no_requirements_need_no_lock() -> None:
    assert lock_dependencies([], "3.11") == b""


def test_requirements_have_one_spelling() -> None:
    assert check_requirements(["b>=1", "a", "a ", "b >= 1"]) == ["a", "b>=1"]


@pytest.mark.parametrize("text", ["a @ git+https://example.org/a", "a @ file:///a", "../a", "", "a b"])
def test_requirements_that_can_not_be_locked(text: str) -> None:
    with pytest.raises(UsageError):
        check_requirements([text])


def test_the_installer_sees_little_of_the_environment() -> None:
    given = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://p",
        "AWS_SECRET_ACCESS_KEY": "x",
        "UV_DEFAULT_INDEX": "i",
        "PYTHONPATH": "y",
    }
    assert installer_environment(given).keys() & given.keys() == {"PATH", "HTTPS_PROXY", "UV_DEFAULT_INDEX"}
