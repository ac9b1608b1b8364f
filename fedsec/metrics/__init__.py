"""Measures of what a federation achieves and what an attacker does."""
