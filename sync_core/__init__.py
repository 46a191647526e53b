"""Opportunity Sync: keeps Marketo opportunities in step with Dynamics 365 Sales."""
