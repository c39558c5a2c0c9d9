"""Every layout, and no number: tables, figures, the reviewers' questions, the report."""
