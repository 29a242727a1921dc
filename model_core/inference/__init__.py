"""Inference: from aligned crops to calibrated affect, on single faces and over time."""
