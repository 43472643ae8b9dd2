"""Federations: founding, inviting, joining, pulsing."""
