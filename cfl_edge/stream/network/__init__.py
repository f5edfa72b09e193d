"""Cameras over the network."""
