"""Code that measures; nothing here is a test."""
