"""Sessions shared with web applications of other languages."""
