"""The composition root: builds one controller, runs it, stops it."""
