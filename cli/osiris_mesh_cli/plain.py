"""Commands whose texts and flags are taken as they are.

typer converts every parameter with a validator of pydantic, whose import takes as long as everything else a call needs.
A text needs no conversion, so a parameter that is one is given a converter that returns it. What typer does not know of
such a converter (an older or a newer one) it ignores, and converts as usual.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["PlainCommand", "PlainGroup"]


class _AsItIs:
    """Stands where typer keeps a parameter's converter."""

    def __init__(self, *, several: bool) -> None:
        self._several = several

    def coerce(self, value: Any, **_: Any) -> Any:
        """Return a text, or several, or that there is none."""
        if self._several:
            return tuple(value or ())
        return value


def _taken(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        if annotation in {str, bool} or annotation == list[str]:
            parameter._runtime_param = _AsItIs(several=annotation == list[str])  # noqa: SLF001 - see above
    return parameters


class PlainCommand(TyperCommand):
    """A command; its parameters of type ``str``, ``list[str]`` and ``bool`` are not validated but taken."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included."""
        return _taken(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands; the same of its options."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included."""
        return _taken(super().get_params(ctx))
