"""One call, from name to result."""
