"""Fitted models as networks for other languages: OpenVINO IR and ONNX."""
