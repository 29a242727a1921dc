"""Heads on video data: features, training, and the challenge's protocol."""
