"""What runs beside jobs: the queue of a rack, schedules, and the rack itself."""
