"""Who may do what: principals, admission, policy."""
