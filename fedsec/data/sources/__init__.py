"""Where datasets come from, one kind of source a file. Cheap to import: torch comes with the first split."""
