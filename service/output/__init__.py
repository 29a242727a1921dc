"""Analyses as documents."""
