"""A bare repository of the test's own, and people who use it with plain git."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from osiris_mesh.registry.tree import Change, Reader

ME = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def need_git() -> None:
    if shutil.which("git") is None and not os.environ.get("CI"):
        pytest.skip("git is not installed")


class Repository:
    """A bare repository, as its host sees it."""

    def __init__(self, folder: Path) -> None:
        need_git()
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(folder))

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *arguments: str, data: bytes = b"", check: bool = True) -> str:
        done = subprocess.run(
            ["git", *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_DIR": str(self.folder), **ME},
            input=data,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def head(self, branch: str = "main") -> str:
        return self.git("rev-parse", f"refs/heads/{branch}")

    def blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", data=data)

    def tree(self, rows: list[tuple[str, str, str]]) -> str:
        """Make a tree of (mode, object id, name), names as they are; nothing is checked."""
        raw = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid) for mode, oid, name in rows)
        return self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", data=raw)

    def commit(self, tree: str, *parents: str, message: str = "x") -> str:
        return self.git("commit-tree", tree, *(part for each in parents for part in ("-p", each)), "-m", message)

    def put(self, files: Mapping[str, bytes], *parents: str, branch: str = "main", message: str = "x") -> str:
        """Commit exactly these files and put the branch there, whatever it was."""
        root: dict[str, object] = {}
        for path, data in files.items():
            *folders, name = path.split("/")
            at = root
            for folder in folders:
                at = at.setdefault(folder, {})  # type: ignore[assignment]
            at[name] = data
        commit = self.commit(self._write(root), *parents, message=message)
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def _write(self, folder: Mapping[str, object]) -> str:
        rows = []
        for name, item in folder.items():
            if isinstance(item, bytes):
                rows.append(("100644", self.blob(item), name, name))
            else:
                rows.append(("40000", self._write(item), name, name + "/"))  # type: ignore[arg-type]
        return self.tree([(mode, oid, name) for mode, oid, name, _ in sorted(rows, key=lambda row: row[3])])

    def files(self, commit: str = "main") -> dict[str, bytes]:
        names = self.git("ls-tree", "-r", "--name-only", "--full-tree", commit).splitlines()
        return {name: self.git("show", f"{commit}:{name}").encode() for name in names}


def writing(files: Mapping[str, bytes]) -> Change:
    async def change(_: Reader) -> Mapping[str, bytes]:
        return files

    return change


def appending(path: str, line: bytes) -> Change:
    """Add a line to what is there, as a publisher does."""

    async def change(reader: Reader) -> Mapping[str, bytes]:
        found = await reader.read(path)
        return {path: (found.data if found is not None else b"") + line + b"\n"}

    return change
