"""What single cells tell beside their metrics, read from their files, and the pictures of it."""
