"""Drawings of training curves and token labels."""
