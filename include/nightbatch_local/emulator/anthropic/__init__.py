"""Emulate Anthropic: https://docs.claude.com/en/api/creating-message-batches."""
