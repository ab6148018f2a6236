"""Examine a dataset: every file, every label, every folder."""
