"""The workbench: an emulator of the providers, an embedded Postgres, a whole stack and a demo."""
