"""Does this model run on this card, and what would?"""
