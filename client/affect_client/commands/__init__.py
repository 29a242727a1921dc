"""The commands of `affect`, one module each, and what `affect analyze` needs."""
