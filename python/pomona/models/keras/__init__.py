"""Keras files of a MobileNetV2, read without Keras."""
