"""What engines call to improve an incumbent."""
