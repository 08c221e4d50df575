"""The certificate: claims measured on the sealed files, the method in words, the manifest and its signature."""
