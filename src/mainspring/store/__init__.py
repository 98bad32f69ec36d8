"""What is kept, and in which format. Nothing here decides."""
