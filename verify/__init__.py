"""The verifier: small, separate and trusted. It never imports the engine (`mansu`)."""
