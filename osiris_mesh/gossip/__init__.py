"""Spread: who is alive, how loaded, what is new."""
