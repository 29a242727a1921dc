"""Faces in a frame: geometry, detection, alignment, quality, tracks."""
