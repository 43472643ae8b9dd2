"""Contract suites that every plugin of a kind passes, ours and yours."""
