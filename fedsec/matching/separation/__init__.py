"""Separating the images of a batch by the first layer: which neurons each of them leaves silent."""
