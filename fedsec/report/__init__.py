"""What is told of a run: tables, pictures, expectations, progress."""
