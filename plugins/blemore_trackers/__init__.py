"""Experiment trackers: TensorBoard, MLflow, Weights & Biases and Trackio."""
