"""Freed memory is kept for the next large call, and bounded: seen in page faults, not in settings."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from osiris_mesh.node.allocator import LARGEST_KEPT, MOST_KEPT
from osiris_mesh.runtime.sandbox import _ENVIRONMENT

PROGRAM = """
import resource, sys
from osiris_mesh.node import allocator
kept = allocator.keep_freed() if sys.argv[1] == "keep" else True

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def call():
    # As a call of 1 MiB does: pieces, their whole, its copy; nothing of it lives on.
    pieces = [bytes(1 << 18) for _ in range(4)]
    whole = b"".join(pieces)
    copies = [bytes(bytearray(whole)) for _ in range(4)]
    return len(copies)

for _ in range(10):
    call()
before = faults()
for _ in range(50):
    call()
each = (faults() - before) / 50
allocator.give_back()
print(int(kept), each)
"""


def run(word: str) -> tuple[bool, float]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, timeout=30, check=True)
    kept, each = done.stdout.split()
    return kept == "1", float(each)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
def test_a_large_call_faults_no_page_once_memory_was_used() -> None:
    kept, each = run("keep")
    assert kept
    assert each < 50, "pages of 1 MiB are 256"


def test_workers_get_the_same_bounds() -> None:
    assert _ENVIRONMENT["MALLOC_MMAP_THRESHOLD_"] == str(LARGEST_KEPT)
    assert _ENVIRONMENT["MALLOC_TRIM_THRESHOLD_"] == str(MOST_KEPT)
