"""The page that teaches, and its API: hands and eyes of a session that learns."""
