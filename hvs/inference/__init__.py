"""Parts of the modes of infer.py: a model ready to draw, captures and photos, camera paths, panels."""
