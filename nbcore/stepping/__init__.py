"""What chooses the next step: criteria, features, networks, policies, control."""
