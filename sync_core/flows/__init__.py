"""What happens: detect which ids changed, reconcile what they should be with what Marketo holds."""
