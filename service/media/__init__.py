"""Decodes untrusted pictures and videos into frames, under limits."""
