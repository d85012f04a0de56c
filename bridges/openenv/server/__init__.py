"""The server's side: needs atommem-gym."""
