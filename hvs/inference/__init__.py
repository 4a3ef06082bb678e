"""What the modes of infer.py are made of: a model ready to draw, captures and photos, camera paths, panels."""
