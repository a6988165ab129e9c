"""Call functions of an Osiris mesh by name."""
