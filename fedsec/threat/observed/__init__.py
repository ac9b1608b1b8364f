"""What an observation is made of: what a server receives, and what it knows of how that came about."""
