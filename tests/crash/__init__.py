"""The crash proof: a real process dies at every step, comes back, and the provider's bill is right."""
