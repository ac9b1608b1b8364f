"""One gradient inversion from a model and images to scores and pictures."""
