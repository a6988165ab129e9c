# /// script
# requires-python = ">=3.11"
#
# [tool.osiris.function]
# idempotent = true
#
# [[tool.osiris.function.test]]
# name = "an empty text asks nobody"
# args = ["  "]
# expect = {}
#
# [[tool.osiris.function.test]]
# name = "a negative number of words"
# args = ["word", -1]
# raises = "ValueError"
# ///
"""A function that calls a function."""

from collections import Counter

import osiris_sdk


def frequencies(text: str, most: int = 10) -> dict[str, int]:
    """Count the words of a text, the most frequent first; ``text/tokens`` tells the words apart."""
    if most < 0:
        raise ValueError("most is not negative")
    if not text.strip():
        return {}
    words = osiris_sdk.current().call("text/tokens", text)
    return dict(Counter(words).most_common(most))
