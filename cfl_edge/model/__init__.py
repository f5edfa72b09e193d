"""The model on disk, its ONNX export, and inference without torch."""
