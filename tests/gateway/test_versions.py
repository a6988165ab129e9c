"""Which version a deployment gets when the node chooses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from osiris_mesh.errors import Conflict
from osiris_mesh.gateway.versions import Choice, Variants, choose
from osiris_mesh.ledger.kinds import FunctionActivate, FunctionPublish, FunctionRemove
from osiris_mesh.runtime.build import build_bundle
from osiris_mesh.runtime.bundle import Bundle
from tests.ledger.kit import ADMIN, Paper


@pytest.fixture
def paper() -> Paper:
    return Paper().begin()


def built(folder: Path, value: int) -> Bundle:
    path = folder / "f.py"
    path.write_text(f"def f():\n    return {value}\n", "utf-8")
    return build_bundle(path, name="d/f", version="1.0.0")


async def chosen(paper: Paper, bundle: Bundle, wanted: str | None = None) -> tuple[str, bool]:
    choice = await choose(paper.state, Variants(bundle), wanted)
    assert isinstance(choice, Choice)
    return choice.bundle.spec.version, choice.changed


async def deployed(paper: Paper, bundle: Bundle, wanted: str | None = None) -> str:
    spec = (await choose(paper.state, Variants(bundle), wanted)).bundle.spec
    paper.must(FunctionPublish(spec.to_wire()), ADMIN)
    paper.must(FunctionActivate(spec.name, spec.version, spec.digest), ADMIN)
    return spec.version


async def test_the_next_free_patch_unless_nothing_changed(paper: Paper, tmp_path: Path) -> None:
    one, two, three = (built(tmp_path, value) for value in (1, 2, 3))
    assert await chosen(paper, one) == ("1.0.0", True)
    assert await deployed(paper, one) == "1.0.0"
    assert await chosen(paper, one) == ("1.0.0", False)
    assert await chosen(paper, one, "1.0.0") == ("1.0.0", False)
    assert await deployed(paper, two) == "1.0.1"
    # What was active before is there, but not active.
    assert await chosen(paper, one, "1.0.0") == ("1.0.0", True)
    with pytest.raises(Conflict, match="other code"):
        await chosen(paper, three, "1.0.0")
    assert await chosen(paper, three, "2.0.0") == ("2.0.0", True)
    paper.must(FunctionRemove("d/f", ""), ADMIN)
    assert await chosen(paper, three) == ("1.0.2", True)
    assert await chosen(paper, one) == ("1.0.0", True)
