"""The HTTP service. Read pipeline.py first: it tells the story of a request."""
