"""Looking after a running broker: by hand from its own machine."""
