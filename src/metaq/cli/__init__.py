"""The command `metaq`: what people and scripts type."""
