# /// script
# requires-python = ">=3.11"
#
# [tool.osiris.function]
# timeout = "30s"
# idempotent = true
#
# [[tool.osiris.function.test]]
# name = "the first ones"
# args = [20]
# expect = [2, 3, 5, 7, 11, 13, 17, 19]
#
# [[tool.osiris.function.test]]
# name = "there is none below two"
# args = [1]
# expect = []
#
# [[tool.osiris.function.test]]
# name = "a limit that would take too much memory"
# args = [1000000000]
# raises = "ValueError"
# ///
"""Work for the processor."""

_MOST = 10_000_000


def primes(limit: int) -> list[int]:
    """Return the prime numbers up to and including ``limit``, by the sieve of Eratosthenes."""
    if limit > _MOST:
        raise ValueError(f"at most {_MOST}")
    sieve = bytearray([1]) * max(limit + 1, 2)
    sieve[0] = sieve[1] = 0
    for number in range(2, int(limit**0.5) + 1 if limit > 1 else 2):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, len(sieve), number)))
    return [number for number, prime in enumerate(sieve) if prime]
