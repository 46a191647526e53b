"""An emulated Adobe Marketo Engage subscription: state in `state`, HTTP in `web`."""
