"""Work that outlives its request: uploads on disk, one SQL table that is the truth about them, and workers."""
