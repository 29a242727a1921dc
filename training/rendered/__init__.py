"""Portraits of rendered people whose action units are known, from two parametric head models."""
