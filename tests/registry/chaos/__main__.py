"""``python -m tests.registry.chaos --minutes 5 --seed S --json``: exit code 0 if nothing went wrong that must not."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys

from tests.registry.chaos.drive import drive


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="Twenty clients resolve while registries go wrong.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    logging.getLogger("osiris.registry").propagate = False
    outcome = asyncio.run(drive(words.minutes * 60, words.seed))
    found = {"seed": words.seed, "minutes": words.minutes, **outcome.to_json()}
    text = json.dumps(found) if words.json else "\n".join(f"{name:16} {value}" for name, value in found.items())
    sys.stdout.write(text + "\n")
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
