"""Recorded input: folders, images and clips."""
