"""``python -m osiris_mesh_cli``: the same as ``osiris-mesh``."""

from __future__ import annotations

import sys

from osiris_mesh_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
