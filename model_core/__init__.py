"""Faces and networks: from a frame to calibrated affect. Nothing here knows HTTP or a data set's files."""
