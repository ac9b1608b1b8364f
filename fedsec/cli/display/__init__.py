"""What the commands show: tables and texts that fit the terminal."""
