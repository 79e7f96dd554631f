"""Files: archives, problems, results."""
