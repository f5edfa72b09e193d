"""Memory and time of a learning step, beside what people use instead."""
