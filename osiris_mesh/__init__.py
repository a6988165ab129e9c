"""Osiris Mesh: a serverless function platform without a centre."""

__all__ = ["__version__"]

__version__ = "0.1.0"
