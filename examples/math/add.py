# /// script
# requires-python = ">=3.11"
#
# [tool.osiris.function]
# idempotent = true
#
# [[tool.osiris.function.test]]
# name = "two and three"
# args = [2, 3]
# expect = 5
#
# [[tool.osiris.function.test]]
# name = "by name, and below zero"
# kwargs = { a = -1, b = 1 }
# expect = 0
# ///
"""The smallest function there is."""


def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b
