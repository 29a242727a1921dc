"""Videos with their analysis drawn on them, or with all faces hidden."""
