"""Untrusted bytes become frames, under limits."""
