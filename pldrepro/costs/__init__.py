"""What a run costs: FLOPs by formula, and the plan of a study before anything is spent."""
