"""Other systems doing the same work as rackmill, and the means to measure them alike."""
