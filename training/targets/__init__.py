"""Training targets that nobody annotated: the teacher's readings, and targets derived from them."""
