"""Emulate the Gemini Developer API: https://ai.google.dev/gemini-api/docs/batch-api."""
