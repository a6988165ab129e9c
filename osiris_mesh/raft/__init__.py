"""Agree: PySyncObj, hardened, over links."""
