"""Emulate OpenAI: https://platform.openai.com/docs/api-reference/batch."""
