"""What ``tools/benchmark.py`` measures, and what it measures against."""
