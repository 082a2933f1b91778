"""Measurements. Each prints what it did, and the figures that the docs quote."""
