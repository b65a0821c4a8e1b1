"""Decide which jobs go tonight, in which batches, and at what price."""
