"""A runtime with real processes, and functions to put into it."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.home import Home
from osiris_mesh.link import Router
from osiris_mesh.runtime import Library, Overrides, Runtime, build_bundles
from osiris_mesh.runtime.kit import make_kit
from osiris_mesh.settings.runtime import RuntimeSettings


class Bench:
    """One runtime and what was deployed to it."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self.folder = folder
        self.runtime = runtime
        self._count = 0

    @property
    def processes(self) -> int:
        """How many processes one zygote is, its wrapping included."""
        return 3 if self.runtime.status().name == "bubblewrap" else 1

    def deploy(self, source: str, **limits: Any) -> FunctionSpec:
        """Put the one function of a source text into the library."""
        self._count += 1
        path = self.folder / f"code{self._count}" / "fn" / "code.py"
        path.parent.mkdir(parents=True)
        path.write_text(textwrap.dedent(source))
        function = limits.pop("function", None)
        (bundle,) = build_bundles(path, function=function, overrides=Overrides(**limits))
        self.runtime.library.put(bundle.data)
        return bundle.spec

    async def call(self, spec: FunctionSpec, *args: Any, within: float | None = None, **kwargs: Any) -> Any:
        """Call a function as a controller would."""
        deadline = None if within is None else time.monotonic() + within
        body = pack([list(args), kwargs])
        return unpack(await self.runtime.run(spec, body, deadline=deadline, headers={"call": "c1"}), VALUE)


def make_runtime(folder: Path, router: Router | None = None, **settings: Any) -> Runtime:
    home = Home(folder / "home")
    home.make()
    return Runtime(home, Library(home.library), router=router, settings=RuntimeSettings(**settings))


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(autouse=True)
def with_kit(tmp_path: Path, kit: Path) -> None:
    """Spare each runtime the making of its kit."""
    shutil.copytree(kit, tmp_path / "home" / "run" / kit.name)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with make_runtime(tmp_path, start_timeout_s=20.0, backoff_s=0.05, backoff_max_s=0.2) as runtime:
        yield Bench(tmp_path, runtime)


@pytest.fixture
def new_runtime(tmp_path: Path) -> Callable[..., Runtime]:
    return lambda **settings: make_runtime(tmp_path, **settings)
