"""JSON schemas: merged, made plain, and checked against answers."""
