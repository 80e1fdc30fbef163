"""The admission policies, one file each (``job.admission_policies`` names them)."""
