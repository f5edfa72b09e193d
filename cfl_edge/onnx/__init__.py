"""ONNX files: export, quantisation, class patches, inference."""
