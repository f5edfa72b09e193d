"""What learns from encoded pictures: contrastive forward learning, and what people use instead."""
