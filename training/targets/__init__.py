"""Training targets beyond human labels: the teacher's readings, and what is derived from them."""
