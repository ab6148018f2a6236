"""Training curves and token labels, drawn."""
