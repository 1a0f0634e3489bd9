"""How images are judged: recognition rates, distances between sets, the nearest real image."""
