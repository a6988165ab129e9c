"""Asking providers: one endpoint a scheme, and what can be discovered of them."""
