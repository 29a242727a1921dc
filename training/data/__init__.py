"""Prepared sets: crops and targets on disk, and batches made of them."""
