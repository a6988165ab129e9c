"""Benchmarks: every timing beside a ceiling measured in the same run."""
