"""The parts that the loops of train.py are made of."""
