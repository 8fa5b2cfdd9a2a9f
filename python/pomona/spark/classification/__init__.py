"""Classifiers on the features of a run: hold-outs, training and prediction."""
