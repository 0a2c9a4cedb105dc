"""What train_general.py is made of."""
