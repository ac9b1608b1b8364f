"""What single clients have of a federation: their own test examples, models tuned for them, parameters of their own."""
