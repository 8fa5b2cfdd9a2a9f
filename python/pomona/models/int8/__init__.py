"""Makes the int8 version of a model, calibrated on photos."""
