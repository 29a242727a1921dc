"""Tensors and faces: from a frame to calibrated affect. Knows neither HTTP nor any data set's files."""
