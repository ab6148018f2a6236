"""Find out what a folder of images is, and write a config that trains on it."""
