"""A run's numbers for other tools: tidy tables, tables of papers, figures as vectors. Knows records, and no run."""
