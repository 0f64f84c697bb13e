"""What Dagster sees: jobs, assets, schedules, sensors. It may not move data itself."""
