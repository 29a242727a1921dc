"""From frames to results: the story of a request. Read pipeline.py first."""
