"""The error of everything that renders."""


class RenderError(Exception):
    """A file, a library or an option of rendering is missing or wrong; the message says which."""
