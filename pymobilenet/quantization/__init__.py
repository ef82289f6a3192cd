"""Int8 quantization of ONNX models."""
