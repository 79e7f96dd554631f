"""Results as a person or a program reads them: tables, plots, JSON."""
