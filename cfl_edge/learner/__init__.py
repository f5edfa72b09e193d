"""The loop that predicts, scores and learns, and what it keeps."""
