"""JSON schemas: merged, made plain, and said in what each provider takes."""
