"""What reads finished runs and sweeps: tables, choices, pictures, pages and exports."""
