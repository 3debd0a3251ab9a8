"""What reads finished runs and sweeps: tables, choices, pictures, pages and exports."""

import ghosttrack  # noqa: F401 - first of all, as it ends a Ctrl-C in one line
