"""What a cell's record says of single clients beside the rounds' figures, one kind a file."""
