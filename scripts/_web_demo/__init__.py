"""What web_demo.py is made of."""
