"""The wing of federations that exchange activations: a network is cut, and its parts lie at different parties."""
