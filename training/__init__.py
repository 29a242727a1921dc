"""From data sets to bundles. Every module in this package's root that has a `main` is a command."""
