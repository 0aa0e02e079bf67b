"""Finished runs, taken out of their directory: as checkpoints that transformers loads, and before lm-eval."""
