"""The relearning study: does CAD predict how fast what was forgotten comes back?"""
