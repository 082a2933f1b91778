"""Parallel requests on one session."""
