"""The way of an image's pixels to the first linear layer of a model."""
