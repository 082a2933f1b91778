"""Everything that knows Tornado."""
