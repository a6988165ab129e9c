"""Running the package installer: an argument vector, a built environment, a time limit, its own words if it fails."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import uv

from osiris_mesh.errors import DeadlineExceeded, Unavailable

__all__ = ["Outcome", "installer_environment", "run_installer"]

_ALLOWED: Final = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_NO_INDEX",
        "PIP_CERT",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_INDEX_STRATEGY",
        "UV_FIND_LINKS",
        "UV_OFFLINE",
        "UV_CACHE_DIR",
        "UV_NO_CACHE",
        "UV_NATIVE_TLS",
        "UV_SYSTEM_CERTS",
        "UV_INSECURE_HOST",
        "UV_HTTP_TIMEOUT",
        "UV_KEYRING_PROVIDER",
        "UV_CONFIG_FILE",
        "UV_LINK_MODE",
        "UV_EXCLUDE_NEWER",
    }
)
_CREDENTIALS = re.compile(r"(https?://)[^/\s@]*@")
_MAX_WORDS: Final = 4000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the installer ended.

    Attributes:
        code: Its exit code.
        output: Its standard output.
        words: What it said on standard error, without credentials, at most 4,000 letters.
    """

    code: int
    output: bytes
    words: str


def installer_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment the installer gets: from ``given``, the names that say where packages come from."""
    return {name: value for name, value in given.items() if name in _ALLOWED} | {
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1",
    }


def run_installer(arguments: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Outcome:
    """Run ``uv`` with ``arguments`` in an empty folder; blocks.

    Args:
        arguments: Argument vector after the program.
        timeout_s: Seconds after which it and its children are killed.
        stdin: What it reads.

    Raises:
        DeadlineExceeded: It took longer.
        Unavailable: It is not installed.
    """
    try:
        program = uv.find_uv_bin()
    except FileNotFoundError:
        raise Unavailable("the package installer is missing here", fix="install the package uv", maybe=False) from None
    with tempfile.TemporaryDirectory(prefix="osiris-install-") as folder:
        # An empty folder of its own, so that no project file nearby changes what is installed.
        process = subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            env=installer_environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(stdin, timeout=timeout_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise DeadlineExceeded(
                    f"the package installer took longer than {timeout_s:g} s; it last said: {_words(errors)[-500:]}",
                    fix="check the network and the package index, then deploy again",
                ) from None
            raise
    return Outcome(process.returncode, output, _words(errors))


def _words(errors: bytes) -> str:
    return _CREDENTIALS.sub(r"\1", errors.decode("utf-8", "replace")).strip()[-_MAX_WORDS:]
