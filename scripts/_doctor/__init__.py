"""What doctor.py looks at."""
