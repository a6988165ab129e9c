"""Find functions anywhere."""
