"""What a solve gives back: data alone."""
