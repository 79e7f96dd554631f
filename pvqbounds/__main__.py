"""Run the command line as ``python -m pvqbounds``."""

from pvqbounds.cli import main

main()
