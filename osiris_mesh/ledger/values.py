"""What the value of a setting may be where an entry sets it: length and shape, the same on every node for ever.

Whoever sets a setting has it checked by the face he asks, but a signed entry need not come by a face. So the ledger
looks again. Its rules are a *level*: level 0 takes any text for any key, as every chain did at first; level 1 adds the
shapes below. An entry that sets ``ledger.rules`` raises the level for the entries after it and nothing lowers it, so
every node judges an entry by what stands before it in the chain, never by its own version, and what an older chain
holds keeps its meaning. A level's shapes are frozen: another shape is a new level.

The shapes are coarser than what the faces and readers ask: they use nothing that differs between machines or versions
of Python, and keys no level knows take any text. Whoever reads a setting copes with one he can't understand.
"""

from __future__ import annotations

import re
from typing import Final

from osiris_mesh.ledger.shapes import Shape, choice, pattern

__all__ = ["HIGHEST_LEVEL", "LEVEL_KEY", "is_guarded", "refusal", "rules_level", "told"]

LEVEL_KEY: Final = "ledger.rules"
"""The setting that raises the level."""
HIGHEST_LEVEL: Final = 1
"""The highest level this version knows; a chain beyond it needs a newer one."""
_MAX_LIST: Final = 32
_MAX_URL: Final = 2048
_MAX_RULE: Final = 256
_NAME: Final = "[a-z0-9][a-z0-9_-]{0,63}"
_ORIGIN: Final = re.compile(r"https?://[!-+.-~-]{1,4096}\Z")
_EVENTS: Final = re.compile(r"[a-z_*]{1,32}(?:\.[a-z_*]{1,32}){0,3}\Z")
_URL: Final = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://[!-~]{1,2048}\Z")
_RULE: Final = re.compile(
    r"[a-z_.]{1,64} *(?:>=|<=|>|<) *[0-9]{1,15}(?:\.[0-9]{1,9})?(?: *[A-Za-z%]{1,3})?"
    r"(?: +for +[0-9]{1,6}(?:\.[0-9]{1,3})?(?:ms|s|m|h))?\Z"
)


def _list(says: str, part: re.Pattern[str], least: int) -> Shape:
    def holds(value: str) -> bool:
        parts = [each.strip(" ") for each in value.split(",")]
        parts = [each for each in parts if each]
        return least <= len(parts) <= _MAX_LIST and all(part.match(each) for each in parts)

    return Shape(f"{least} to {_MAX_LIST} {says}, comma-separated", holds)


def _is_rule(value: str) -> bool:
    return value == "off" or (len(value) <= _MAX_RULE and _RULE.match(value.strip(" ")) is not None)


_CONTEXT: Final = re.compile(r"(?:pure|controlled|full)(?:; ?[a-z]{1,16}=[A-Za-z0-9._*/:@\[\],-]{0,4096}){0,32}\Z")
_NETWORK: Final = re.compile(r"loopback\Z|[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?\Z")
_FUNCTION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,62}){1,2}\Z")
_COUNT: Final = pattern("a number from 1 to 999999", re.compile(r"[1-9][0-9]{0,5}\Z"))
_LEVEL_1: Final[tuple[tuple[re.Pattern[str], Shape], ...]] = (
    (re.compile(r"max_retries\Z"), pattern("a number from 0 to 10", re.compile(r"(?:[0-9]|10)\Z"))),
    (re.compile(r"log\.level\Z"), choice("debug", "info", "warning", "error")),
    (re.compile(r"http\.allowed_origins\Z"), _list("origins", _ORIGIN, 0)),
    (re.compile(r"http\.(?:requests_per_s|streams_per_bearer|connections_per_address)\Z"), _COUNT),
    (
        re.compile(rf"webhook\.{_NAME}\.url\Z"),
        Shape("an http or https URL", lambda value: len(value) <= _MAX_URL and _URL.match(value) is not None),
    ),
    (re.compile(rf"webhook\.{_NAME}\.events\Z"), _list("names of events", _EVENTS, 1)),
    (re.compile(r"registry\.context\Z"), pattern("a security context", _CONTEXT)),
    (re.compile(r"registry\.allow_networks\Z"), _list("networks", _NETWORK, 0)),
    (re.compile(r"registry\.policy\Z"), choice("balanced", "fastest", "lowest-cost", "highest-availability", "custom")),
    (re.compile(r"registry\.chooser\Z"), pattern("a function's full name", _FUNCTION)),
    (re.compile(rf"alert\.{_NAME}\Z"), Shape("an alert rule, or off", _is_rule)),
)


_GUARDED: Final = re.compile(rf"webhook\.{_NAME}\.url\Z")
_ORIGIN_OF: Final = re.compile(r"(https?://)(?:[^/?#]{0,4096}@)?([^/?#@\\]{1,255})", re.IGNORECASE)


def is_guarded(key: str) -> bool:
    """Say whether a value is told in full to those alone who may set it: many a URL is a credential."""
    return _GUARDED.match(key) is not None


def told(key: str, value: str) -> str:
    """Return what of a setting's value is told to whoever may not set it: of a webhook's URL scheme and host."""
    if not is_guarded(key):
        return value
    found = _ORIGIN_OF.match(value)
    return f"{found[1]}{found[2]}/…" if found else "…"


def rules_level(value: str) -> int:
    """Return the level a value of :data:`LEVEL_KEY` asks for; 0 if it asks for none this version knows."""
    return HIGHEST_LEVEL if value == str(HIGHEST_LEVEL) else 0


def refusal(level: int, key: str, value: str) -> str:
    """Say why an entry may not set a setting to a value; empty if it may.

    Args:
        level: The level the entry meets.
        key: The setting.
        value: The value; it obeys the rules of the entry's body.
    """
    if level < 1:
        return ""
    if key == LEVEL_KEY:
        return "" if rules_level(value) >= level else f"{key} is a level this version knows, and never goes down"
    for known, shape in _LEVEL_1:
        if known.match(key):
            return "" if shape.holds(value) else f"{key} is {shape.says}"
    return ""
