"""The mirror: camera, try-on, screen."""
