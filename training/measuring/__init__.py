"""Measures of trained networks, their intervals and their pictures."""
