"""Who runs when: batches, threads, lanes. Knows nothing of faces, torch or HTTP."""
