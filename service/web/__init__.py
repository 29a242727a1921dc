"""The page and the interface's description, for people with a browser: HTML, style sheets and modules in `files/`."""
