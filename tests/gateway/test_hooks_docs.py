"""docs/events.md lists every event, figure and built-in rule, as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

from osiris_mesh.gateway.alerts import FIGURES
from osiris_mesh.gateway.config_keys import DEFAULT_RULES
from osiris_mesh.gateway.events import EVENTS

TEXT = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")


def rows(*header: str) -> list[tuple[str, ...]]:
    """Return the rows of the table with this header."""
    table = TEXT.partition("| " + " | ".join(header) + " |\n")[2].partition("\n\n")[0]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[1:]]


def test_events() -> None:
    assert rows("event", "scope", "meaning", "fields") == [
        (f"`{name}`", kind.scope, kind.means, ", ".join(kind.fields))
        for name, kind in sorted(EVENTS.items(), key=lambda item: [row[0] for row in EVENT_ROWS].index(f"`{item[0]}`"))
    ]
    assert len(EVENT_ROWS) == len(EVENTS)


EVENT_ROWS = rows("event", "scope", "meaning", "fields")


def test_figures() -> None:
    assert rows("figure", "of", "units", "what it is") == [
        (f"`{name}`", figure.subject, ", ".join(figure.units), figure.means) for name, figure in FIGURES.items()
    ]


def test_built_in_rules() -> None:
    assert rows("alert", "rule") == [(f"`{name}`", f"`{rule}`") for name, rule in DEFAULT_RULES.items()]


def test_no_line_speaks_of_an_event_that_is_none() -> None:
    named = set(re.findall(r"`((?:node|quorum|leader|member|deploy|queue)\.[a-z_]+)`", TEXT))
    assert named <= EVENTS.keys() | FIGURES.keys()
