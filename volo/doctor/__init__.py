"""Check a dataset before training: every file, label and folder."""
