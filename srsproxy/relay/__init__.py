"""The data plane: it moves bytes and knows sockets, not protocols."""
