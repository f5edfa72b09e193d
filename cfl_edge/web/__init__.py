"""What a command serves over HTTP: one application, one server, the same limits for everybody."""
