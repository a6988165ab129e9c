"""docs/protocol/health.md says byte for byte what members send."""

from __future__ import annotations

from pathlib import Path

from osiris_mesh.codec import pack, unpack_canonical
from osiris_mesh.registry.health_news import MAX_DOWN, MAX_NAMES, MAX_PLACED, MAX_SEEN, HealthNews

PAGE = (Path(__file__).parents[3] / "docs" / "protocol" / "health.md").read_text("utf-8")
NEWS = HealthNews(
    names=(("acme.com/image/sharpen", 2),),
    seen=(("acme", "https://a.example/", 3.5, 1.0),),
    down=(("acme", "https://a.example/", True),),
    placed=(b"{}",),
    region="eu",
)


def vectors() -> list[bytes]:
    lines = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
    return [bytes.fromhex(line) for line in lines if len(line) > 40 and set(line) <= set("0123456789abcdef")]


def test_the_vectors_are_what_is_sent() -> None:
    news, question, answer = vectors()
    assert NEWS.to_wire() == news
    assert HealthNews.from_wire(news) == NEWS
    assert question == pack("acme.com/image/sharpen")
    assert unpack_canonical(answer) == ["0f" * 16, 1500, False, b"{}\n"]


def test_the_bounds_are_those_of_the_page() -> None:
    for number, key in ((MAX_DOWN, "down"), (MAX_NAMES, "names"), (MAX_PLACED, "placed"), (MAX_SEEN, "seen")):
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"    {key} ")]
        assert line.endswith(f"at most {number}")
