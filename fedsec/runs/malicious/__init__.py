"""What a malicious server does in a running cell, beside its rounds."""
