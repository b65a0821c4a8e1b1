"""Send batches, find them again, load them, and decide about them: everything that may cost money."""
