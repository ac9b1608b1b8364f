"""What attackers on updates reckon with, shared by attacks."""
