"""Gramian: exact federated learning on sufficient statistics, as a serverless function bundle."""

__version__ = "0.1.0"
