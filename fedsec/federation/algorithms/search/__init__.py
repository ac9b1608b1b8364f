"""Architecture search by federations."""
