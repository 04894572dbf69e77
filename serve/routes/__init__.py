"""The routes of the HTTP API by topic: each module adds its own to the application."""
