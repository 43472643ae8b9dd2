"""Pure domain code: no I/O, no clock, no environment; time and randomness are passed in."""
