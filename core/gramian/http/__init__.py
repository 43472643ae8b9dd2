"""The REST edge: requests in, envelopes out."""
