"""Scheduling: admission, queues with lanes, batches, threads and their watchdog. Knows nothing of faces or HTTP."""
