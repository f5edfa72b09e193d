"""Learners side by side on streams of labelled images."""
