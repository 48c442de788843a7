"""Studies that train for real, again and again, and say what came out."""
