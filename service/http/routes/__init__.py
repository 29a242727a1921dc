"""One module a resource; a route only translates between HTTP and the pipeline."""
