"""A model in service: watched, swapped, asked over HTTP, and heard by other programs."""
