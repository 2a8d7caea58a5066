"""PyTorch model -> bundle of ONNX graphs -> TensorRT engines, with a parity report."""
