"""Handwritten digits, learned by nodes of which some flip their labels."""
