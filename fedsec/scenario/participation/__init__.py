"""Who takes part in the rounds of a cell: the section that says so, and what is known of it before a run."""
