"""Values and pure decisions: no input, no output."""
