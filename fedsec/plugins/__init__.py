"""Names in YAML and the classes behind them, read from source without importing them."""
