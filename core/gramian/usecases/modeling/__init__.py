"""Building, describing and using models, in jobs."""
