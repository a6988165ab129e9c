from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from osiris_sdk import Mesh
from tests.sdk.nodes import Node


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "home")
    node.publish("math/add", add, description="Add two numbers.")
    node.publish("math/fail", lambda: 1 // 0)
    node.start()
    yield node
    node.close()


@pytest.fixture
def mesh(node: Node) -> Iterator[Mesh]:
    with Mesh.connect(home=node.home.path) as mesh:
        yield mesh
