"""FedGKT's wing: clients and a server that exchange what they know about each example."""
