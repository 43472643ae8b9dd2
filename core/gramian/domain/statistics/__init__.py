"""Sufficient statistics: what is kept of rows, and all that is derived from it."""
