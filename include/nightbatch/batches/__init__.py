"""Send, find again, load, decide: everything that may cost money."""
