"""Matched averaging: what is the same neuron in different clients' networks is averaged as one."""
