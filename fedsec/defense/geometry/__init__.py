"""What rules compute from lengths, distances and inner products alone."""
