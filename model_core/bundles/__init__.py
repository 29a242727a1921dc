"""Bundles: a trained network with everything that serving it takes, as a folder."""
