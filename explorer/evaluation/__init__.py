"""Measures over many images, each with its conditions."""
