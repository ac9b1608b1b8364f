"""Sums of clipped per-example gradients, by several ways that agree."""
