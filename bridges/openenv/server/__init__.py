"""The server; needs atommem-gym."""
