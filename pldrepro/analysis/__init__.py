"""Every number, and no layout: run folders in, tidy frames and verdicts out. No torch and no matplotlib here."""
