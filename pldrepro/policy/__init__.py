"""What is dropped: schedules over time, allocations over depth or rank, residual scales, gates."""
