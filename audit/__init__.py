"""What can still be read out of a compiled network."""
