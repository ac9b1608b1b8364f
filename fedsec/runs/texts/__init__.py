"""Cells whose clients have texts: what a curious server reads."""
