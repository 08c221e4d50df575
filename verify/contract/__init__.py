"""The contract between engine, verifier and reports: manifest, policy and result, as frozen pydantic models."""
