"""Structured logs: an event's name and its fields, one line each, secrets masked; see DESIGN.md."""

from __future__ import annotations

from osiris_mesh.telemetry.logs import LEVELS, STYLES, Logging, start_logging

__all__ = ["LEVELS", "STYLES", "Logging", "start_logging"]
