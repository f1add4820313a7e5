"""`python -m refitd`."""

from refitd.cli import main

main()
