"""Does a finished dataset hold what it promises?"""
