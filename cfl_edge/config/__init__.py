"""The options of commands whose logic lies below the command line, each declared once.

They load neither torch nor numpy: the rooms that obey them import them, and so does `cli/`.
"""
