"""Two or three actors of which one moves at a time: a seed decides who, and the provider's bill is the judge."""
