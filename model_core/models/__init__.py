"""The networks; only `spec` does without torch."""
