"""EfficientNet-Lite0 from PyTorch weights, read without PyTorch."""
