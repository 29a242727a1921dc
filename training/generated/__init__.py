"""A generated Aff-Wild2: drawn faces in the official layout, whose labels are known because they are what was drawn."""
