"""Servers that do not wait for whole rounds: who arrives when, and what is made of late updates."""
