"""What carries out the `audit:` section of a scenario in a running cell, one part a file."""
