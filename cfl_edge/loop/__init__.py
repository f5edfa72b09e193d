"""The session: predict, score, learn, save."""
