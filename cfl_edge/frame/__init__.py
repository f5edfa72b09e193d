"""A frame, what a model looks at in it, what it answers, and what a session makes of it."""
