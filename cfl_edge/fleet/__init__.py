"""Models of several boards made one: what each contributes, their sums, and the merged folder."""
