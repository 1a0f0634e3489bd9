"""Networks trained on the real data that say what an attack's images show."""
