"""What people say is right: the rows they are asked about, and their answers, beside an output."""
