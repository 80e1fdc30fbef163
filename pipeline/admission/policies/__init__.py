"""The admission policies, one file each (``job.registries.admission_policies`` names them)."""
