"""Configuration: server.ini and arguments, read once, checked once, passed down as frozen values."""
