"""Annotators: networks that make label maps from images."""
