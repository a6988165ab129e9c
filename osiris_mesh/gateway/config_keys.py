"""The settings of a mesh: every key there is, what its value may be, its default and what it does. A core.

Whoever sets one checks it here first, the ledger looks at its shape again (:mod:`osiris_mesh.ledger.values`), and
whoever reads one reads it here; see :mod:`osiris_mesh.gateway.in_force` for a value nobody understands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import urlsplit

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.gateway.alerts import Rule
from osiris_mesh.gateway.events import check_patterns
from osiris_mesh.gateway.webhook_target import Target
from osiris_mesh.ledger.values import HIGHEST_LEVEL, LEVEL_KEY, told
from osiris_mesh.registry.context import parse
from osiris_mesh.registry.guard import Guard
from osiris_mesh.settings.gateway import GatewaySettings
from osiris_mesh.settings.registry import POLICIES

__all__ = [
    "DEFAULT_RULES",
    "KEYS",
    "Key",
    "Webhook",
    "alert_rules",
    "check",
    "find",
    "known",
    "listing",
    "read",
    "webhooks",
]

MAX_WEBHOOKS: Final = 32
MAX_ALERTS: Final = 100
_NAME: Final = r"[a-z0-9][a-z0-9_-]{0,63}"
_LEVELS: Final = ("debug", "info", "warning", "error")
_MAX_RETRIES: Final = 10
_MAX_ORIGINS: Final = 32
_MAX_COUNT: Final = 999_999
_DEFAULTS: Final = GatewaySettings()


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, or a family of settings with a name in the middle.

    Attributes:
        key: Its key; ``<name>`` stands for a name of the operator's choice.
        kind: Kind of value, in a word or two.
        default: What holds while it is not set, as it would be written; empty for none.
        means: What it does.
        example: A value.
        parse: Reads a value; raises :class:`UsageError`.
        closed: What holds where the set value can't be read, because it was set to limit something; None: the default.
    """

    key: str
    kind: str
    default: str
    means: str
    example: str
    parse: Callable[[str], Any]
    closed: str | None = None

    def otherwise(self, key: str) -> str:
        """Return the text that holds where the one set for ``key`` can't be read; empty if there is none."""
        return self.default_of(key) if self.closed is None else self.closed

    def default_of(self, key: str) -> str:
        """Return what holds of ``key``, one of this family, while it is not set."""
        return DEFAULT_RULES.get(key.removeprefix("alert."), "") if key.startswith("alert.") else self.default

    def covers(self, key: str) -> bool:
        """Say whether ``key`` is this one."""
        return re.fullmatch(re.escape(self.key).replace("<name>", _NAME), key) is not None


def _retries(text: str) -> int:
    return _number(text, 0, _MAX_RETRIES)


def _count(text: str) -> int:
    return _number(text, 1, _MAX_COUNT)


def _level_of_rules(text: str) -> int:
    return _number(text, HIGHEST_LEVEL, HIGHEST_LEVEL)


def _number(text: str, low: int, high: int) -> int:
    # Written in one way only, so that what is compared as text is compared as a number.
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(high)) and str(int(text)) == text
    if not plain or not low <= int(text) <= high:
        span = f"{low}" if low == high else f"a number from {low} to {high}"
        raise UsageError(f"{text[:80]!r} is not {span}")
    return int(text)


def _level(text: str) -> str:
    if text not in _LEVELS:
        raise UsageError(f"{text[:80]!r} is no log level", fix=f"use one of {', '.join(_LEVELS)}")
    return text


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    if len(origins) > _MAX_ORIGINS:
        raise UsageError(f"{len(origins)} origins are more than {_MAX_ORIGINS}")
    for origin in origins:
        if not _is_origin(origin):
            raise UsageError(f"{origin[:80]!r} is not an origin", fix="write it like https://portal.example.org")
    return origins


def _is_origin(text: str) -> bool:
    """Say whether ``text`` is an origin exactly as browsers send it."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    named = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and "@" not in parts.netloc
    return named and text == f"{parts.scheme}://{parts.netloc}".lower()


def _context(text: str) -> str:
    parse(text)
    return text


def _policy(text: str) -> str:
    if text not in POLICIES:
        raise UsageError(f"{text[:40]!r} is no policy", fix=f"choose one of {', '.join(POLICIES)}")
    return text


def _function(text: str) -> str:
    if str(FunctionName.parse(text)) != text:
        raise UsageError(f"{text[:80]!r} is not a function's full name", fix="write its namespace too: team/choose")
    return text


def _networks(text: str) -> tuple[str, ...]:
    networks = tuple(part.strip() for part in text.split(",") if part.strip())
    if len(networks) > _MAX_ORIGINS:
        raise UsageError(f"{len(networks)} networks are more than {_MAX_ORIGINS}")
    Guard(networks)
    return networks


def _patterns(text: str) -> tuple[str, ...]:
    return check_patterns([part.strip() for part in text.split(",") if part.strip()])


def _rule(text: str) -> Rule | None:
    return None if text == "off" else Rule.parse(text)


DEFAULT_RULES: Final[Mapping[str, str]] = {
    "error-rate": "function.error_rate > 10% for 1m",
    "disk-full": "node.disk_free < 1GiB for 1m",
    "ledger-lag": "ledger.lag > 100 for 1m",
}
"""Alert rules that hold unless the setting ``alert.<name>`` says otherwise; ``off`` ends one."""

KEYS: Final = (
    Key(
        "max_retries",
        "number",
        "2",
        "How often a call is tried again on another node after a failure that a repetition can't harm, 0 to 10.",
        "3",
        _retries,
    ),
    Key(
        "http.allowed_origins",
        "origins",
        "",
        "Web origins whose pages may use the HTTP API of every node (CORS), comma-separated; empty: none.",
        "https://portal.example.org",
        _origins,
    ),
    Key(
        "http.requests_per_s",
        "number",
        str(_DEFAULTS.requests_per_s),
        "Requests one bearer may make of the HTTP API of a node a second on average, calls excepted; past it: 429.",
        "2000",
        _count,
    ),
    Key(
        "http.streams_per_bearer",
        "number",
        str(_DEFAULTS.streams_per_bearer),
        "Event streams one bearer may have open at a node at a time.",
        "32",
        _count,
    ),
    Key(
        "http.connections_per_address",
        "number",
        str(_DEFAULTS.connections_per_address),
        "HTTP connections from one remote address (IPv6: one /64) at a node at a time; no bound behind a proxy.",
        "64",
        _count,
    ),
    Key(
        LEVEL_KEY,
        "number",
        "",
        "Rules that values of settings obey in the ledger; set once every node knows them, and never taken back.",
        str(HIGHEST_LEVEL),
        _level_of_rules,
    ),
    Key(
        "registry.context",
        "security context",
        "",
        "What calls of this mesh may reach at most: pure, controlled or full, with patterns (docs/providers.md).",
        "controlled; functions=acme.com/*/*; trusted=acme",
        _context,
        closed="pure",
    ),
    Key(
        "registry.allow_networks",
        "networks",
        "",
        "Networks that providers of records may be in though they are not public: CIDR, or loopback; comma-separated.",
        "10.0.0.0/8",
        _networks,
        closed="",
    ),
    Key(
        "registry.policy",
        "policy",
        "balanced",
        "Which provider is tried first: balanced, fastest, lowest-cost, highest-availability, or custom.",
        "fastest",
        _policy,
    ),
    Key(
        "registry.chooser",
        "function",
        "",
        "Function of this mesh that puts providers in order where registry.policy is custom (docs/providers.md).",
        "team/choose",
        _function,
    ),
    Key("log.level", "level", "info", "What every node logs from: debug, info, warning or error.", "debug", _level),
    Key(
        "webhook.<name>.url",
        "URL",
        "",
        "Where events are sent: https, or http to the sending node's own machine.",
        "https://hooks.example.org/osiris",
        Target.parse,
    ),
    Key(
        "webhook.<name>.events",
        "event names",
        "*",
        "Which events are sent there: names or patterns, comma-separated (docs/events.md).",
        "node.*,quorum.lost,deploy.failed",
        _patterns,
    ),
    Key(
        "alert.<name>",
        "rule",
        "",
        "A rule that publishes alert.firing when it holds, or off (docs/events.md).",
        "function.mean_ms > 500ms for 5m",
        _rule,
    ),
)
"""Every setting there is; docs/settings.md and ``config list`` show them."""


def known(key: str) -> Key | None:
    """Return what is known of a key, or None."""
    return next((one for one in KEYS if one.covers(key)), None)


def find(key: str) -> Key:
    """Return what is known of a key.

    Raises:
        UsageError: There is no such setting.
    """
    found = known(key)
    if found is not None:
        return found
    near = get_close_matches(key[:128], [one.key for one in KEYS], n=1, cutoff=0.6)
    known_keys = ", ".join(one.key for one in KEYS)
    raise UsageError(
        f"there is no setting {key[:128]!r}", fix=f"did you mean {near[0]}?" if near else f"settings are {known_keys}"
    )


def check(key: str, value: str) -> None:
    """Check a value before it is proposed.

    Raises:
        UsageError: No such setting, or not a value of it.
    """
    found = find(key)
    try:
        found.parse(value)
    except UsageError as error:
        raise UsageError(
            f"{key} can't be that: {error.what}", fix=error.fix or f"for example: {found.example}"
        ) from None


def read(settings: Mapping[str, str], key: str) -> Any:
    """Return the parsed value of a setting: the set one if it can be read, else the default; None if there is none."""
    found = find(key)
    for text in (settings.get(key), found.default):
        if text is not None:
            try:
                return found.parse(text)
            except UsageError:
                continue
    return None


def listing(settings: Mapping[str, str], *, whole: bool = True) -> list[dict[str, Any]]:
    """Return every setting for people and programs: those set, and the known ones that are not.

    Where it is not for somebody who may set them (``whole``), values are as :func:`osiris_mesh.ledger.values.told` has
    them.

    Each is a map with ``key``, ``value`` (as written; the default where it is not set), ``default``, ``is_set``,
    ``kind``, ``means``, and ``problem`` (why a set value has no effect and what holds instead, else empty).
    """
    defaults = {f"alert.{name}" for name in DEFAULT_RULES}
    keys = sorted({*settings, *defaults, *(one.key for one in KEYS if "<" not in one.key)})
    rows = [_row(key, settings.get(key)) for key in keys]
    if whole:
        return rows
    return [row | {"value": told(row["key"], row["value"])} if row["is_set"] else row for row in rows]


def _row(key: str, value: str | None) -> dict[str, Any]:
    found = known(key)
    problem = ""
    if value is not None:
        try:
            check(key, value)
        except UsageError as error:
            holds = found.otherwise(key) if found else ""
            problem = error.what + (f"; what holds is {holds or 'none'}" if found else "")
    default = found.default_of(key) if found else ""
    return {
        "key": key,
        "value": default if value is None else value,
        "default": default,
        "is_set": value is not None,
        "kind": found.kind if found else "",
        "means": found.means if found else "",
        "problem": problem,
    }


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook as the settings have it.

    Attributes:
        name: Its name.
        target: Where to.
        patterns: Which events.
    """

    name: str
    target: Target
    patterns: tuple[str, ...]


def webhooks(settings: Mapping[str, str]) -> dict[str, Webhook]:
    """Return the webhooks by name: those whose URL and events can be read; 32 at most, the first by name.

    One whose events can't be read gets none, rather than all.
    """
    found: dict[str, Webhook] = {}
    for key in sorted(settings):
        name = key.removeprefix("webhook.").removesuffix(".url")
        if key == f"webhook.{name}.url" and "." not in name and len(found) < MAX_WEBHOOKS:
            try:
                target = Target.parse(settings[key])
                patterns = _patterns(settings.get(f"webhook.{name}.events", "*"))
            except UsageError:
                continue
            found[name] = Webhook(name, target, patterns)
    return found


def alert_rules(settings: Mapping[str, str]) -> dict[str, Rule]:
    """Return the alert rules by name, the built-in ones included; 100 at most."""
    texts = {f"alert.{name}": text for name, text in DEFAULT_RULES.items()}
    texts |= {key: text for key, text in sorted(settings.items()) if key.startswith("alert.")}
    rules: dict[str, Rule] = {}
    for key, text in list(texts.items())[:MAX_ALERTS]:
        try:
            rule = _rule(text)
        except UsageError:
            continue
        if rule is not None:
            rules[key.removeprefix("alert.")] = rule
    return rules
