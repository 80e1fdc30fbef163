"""The dispatcher behind Ray: the actor that grants leases."""
