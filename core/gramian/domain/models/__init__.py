"""Models that are built from sufficient statistics alone."""
