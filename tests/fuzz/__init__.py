"""Random and adversarial problems against exact rational arithmetic: ``python -m tests.fuzz``."""
