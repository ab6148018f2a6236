"""What ``python -m benchmarks`` measures, and what it measures against."""
