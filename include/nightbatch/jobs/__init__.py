"""The way into the queue and out of it: rows, files, cancelling, councils and media."""
