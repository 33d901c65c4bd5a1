"""What a user sees: tables, figures and pages, made from records alone."""
