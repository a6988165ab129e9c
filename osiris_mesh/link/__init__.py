"""Authenticated encrypted links and the streams on them."""
