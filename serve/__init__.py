"""A bundle and the newest events become answers over HTTP."""
