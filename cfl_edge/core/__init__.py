"""The mathematics as pure functions, and the layers that hold state."""
