"""Data sets, and how they are augmented."""
