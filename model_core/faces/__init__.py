"""Faces in frames: geometry, detection, alignment, quality and tracking."""
