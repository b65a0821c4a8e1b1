"""The routes, by subject; each reads its request, calls one use case, and answers."""
