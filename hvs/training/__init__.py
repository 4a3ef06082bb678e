"""What the loops of train.py are made of."""
