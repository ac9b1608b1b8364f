"""A run's tasks on nodes of a cluster: what a cell takes there, what a node must have, how files come and go."""
