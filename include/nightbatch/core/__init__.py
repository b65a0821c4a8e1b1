"""Values and pure decisions, without any input or output."""
