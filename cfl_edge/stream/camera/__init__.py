"""Cameras of this machine, by Video4Linux."""
