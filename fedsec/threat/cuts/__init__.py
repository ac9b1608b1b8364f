"""What attackers do at the cut of a network: servers that hijack clients, and clients that poison activations."""
