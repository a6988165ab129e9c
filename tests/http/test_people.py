"""Users and tokens over HTTP: what a bearer can give."""

from __future__ import annotations

import pytest

from tests.http.client import Face
from tests.http.tokens import make_token

pytestmark = pytest.mark.system


def test_user_manage_alone_gives_nothing_and_is_told_why(face: Face) -> None:
    alone = make_token(face.home, "only-users", ["user.manage"])
    made = face.post("/v1/users", {"name": "eve", "role": "viewer"}, token=alone)
    assert (made.status, made.json["details"]["refusal"]) == (403, "grant")
    assert "the role viewer holds function.logs" in made.json["detail"]
    assert "nobody gives, or takes away, more than he holds" in made.json["fix"]
    assert "user.manage" in made.json["fix"]
    able = make_token(face.home, "users-and-reading", ["user.manage", "mesh.read", "function.read", "function.logs"])
    assert face.post("/v1/users", {"name": "eve", "role": "viewer"}, token=able).status == 200
    assert face.ask("DELETE", "/v1/users/eve", token=able).status == 200
