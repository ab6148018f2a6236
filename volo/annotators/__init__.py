"""Annotators: from images to token-label maps."""
