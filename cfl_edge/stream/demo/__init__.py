"""The camera that the program draws itself."""
