"""Texts as data: characters as numbers, plays by who speaks, windows to learn the next character from."""
