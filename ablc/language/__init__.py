"""Text to syntax tree and back: reading, splitting, parsing, printing. Knows nothing of models."""
