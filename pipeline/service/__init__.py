"""What runs beside jobs: the queue of a rack, schedules, review pages, and the rack itself."""
