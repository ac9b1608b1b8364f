"""One inversion of a client's texts, from a model and characters to scores and a page."""
