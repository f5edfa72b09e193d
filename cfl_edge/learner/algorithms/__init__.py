"""What learns from encoded images: contrastive forward learning, and what people use instead."""
