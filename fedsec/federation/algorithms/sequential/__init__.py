"""Clients that train one after another: each goes on from the model of the one before it."""
