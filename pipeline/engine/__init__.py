"""The protocol behind which every engine stands, and the engines."""
