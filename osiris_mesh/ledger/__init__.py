"""What all agree on: signed entries in hash-chained blocks."""
