"""A package, so that an installed one of the same name does not hide the helpers."""
