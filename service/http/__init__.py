"""What knows HTTP: routes, uploads, errors as problem documents, keys."""
