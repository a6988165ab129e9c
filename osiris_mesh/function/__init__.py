"""What a function is, wherever it is spoken of: its name, its signature, its specification."""
