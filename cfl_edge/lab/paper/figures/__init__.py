"""The paper's figures: what is computed for them, and how it is drawn."""
