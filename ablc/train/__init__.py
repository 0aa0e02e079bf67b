"""Data, the training loop and its records."""
