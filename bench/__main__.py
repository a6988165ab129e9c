"""``python -m bench NAME [--json]``: run one benchmark (or ``all``) and print its figures.

A benchmark is a module ``bench.NAME`` with ``def run(args: list[str]) -> dict[str, float | int | str]``.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys

import bench


def names() -> list[str]:
    """Return every benchmark of this folder: the modules that have a ``run``."""
    found = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    return [name for name in found if hasattr(importlib.import_module(f"bench.{name}"), "run")]


def main() -> int:
    """Run what the command line names."""
    words = [word for word in sys.argv[1:] if word != "--json"]
    as_json = "--json" in sys.argv[1:]
    known = names()
    if not words or (words[0] != "all" and words[0] not in known):
        print(f"usage: python -m bench {'|'.join([*known, 'all'])} [--json]", file=sys.stderr)
        return 2
    chosen = known if words[0] == "all" else [words[0]]
    figures: dict[str, object] = {"cpus": os.cpu_count() or 0, "python": sys.version.split()[0]}
    for name in chosen:
        result = importlib.import_module(f"bench.{name}").run(words[1:])
        figures.update(result if len(chosen) == 1 else {name: result})
    if as_json:
        print(json.dumps(figures))
    else:
        for key, value in figures.items():
            print(f"{key:32} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
