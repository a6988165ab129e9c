# /// script
# requires-python = ">=3.11"
#
# [tool.osiris.function]
# idempotent = true
#
# [[tool.osiris.function.test]]
# name = "words, in lower case"
# args = ["The mesh, the Mesh!"]
# expect = ["the", "mesh", "the", "mesh"]
#
# [[tool.osiris.function.test]]
# name = "as written"
# args = ["Grüße an Anna"]
# kwargs = { lower = false }
# expect = ["Grüße", "an", "Anna"]
#
# [[tool.osiris.function.test]]
# name = "nothing in, nothing out"
# args = [""]
# expect = []
# ///
"""Words of a text."""

import re

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def tokens(text: str, lower: bool = True) -> list[str]:
    """Return the words of a text in order."""
    return _WORD.findall(text.lower() if lower else text)
