"""What only the beginning of a cell tells, found out before anybody works."""
