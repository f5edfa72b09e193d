"""Learners that are compared with in `bench streams`, and nothing more."""
