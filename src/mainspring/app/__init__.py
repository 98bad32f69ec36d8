"""What a person touches: Loop and Pipeline, the command line, the service."""
