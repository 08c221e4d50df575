"""The circuit of a forget set: searched for, and shown as a document and a picture."""
