"""Specs as a reviewer sees them: what changes between two of them, or between two states of a repository."""
