"""Schemas and templates of every kind, through every adapter: rejected in words, or taken by the emulator."""
