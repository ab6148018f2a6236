"""The measurements of ``python -m benchmarks``, and what they compare with."""
