"""The shape of the answers that a job asks for."""
