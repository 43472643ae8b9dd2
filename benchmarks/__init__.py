"""How fast Gramian is, in ratios to the bare work on the same machine in the same minute: `python -m benchmarks`."""
