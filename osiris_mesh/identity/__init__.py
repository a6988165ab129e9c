"""Who someone is: key pairs, peer ids, addresses, join tokens."""
